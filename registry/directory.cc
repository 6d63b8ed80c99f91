#include "registry/directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "registry/base/path.h"
#include "registry/base/text.h"
#include "registry/problem.h"

namespace evermap {
namespace {

constexpr mode_t kDirectoryMode = 0755;

}  // namespace

absl::Status MakeRegistryDirectory(const std::string& registry_path) {
  const std::string directory = DirectoryOf(registry_path);
  if (mkdir(directory.c_str(), kDirectoryMode) == 0) {
    // The umask must not decide which users can read the registry.
    if (chmod(directory.c_str(), kDirectoryMode) == 0) return absl::OkStatus();
  } else if (errno == EEXIST) {
    const std::string complaint = DirectoryComplaint(directory, geteuid());
    if (complaint.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        directory, ": ", complaint, "; put it right or name a registry with -registry"));
  }
  const int error = errno;
  if (error == EROFS || IsNoSpace(error)) {
    return absl::ResourceExhaustedError(
        absl::StrCat(directory, ": cannot be made: ", ErrorText(error)));
  }
  return absl::FailedPreconditionError(absl::StrCat(directory,
                                                    ": cannot be made: ", ErrorText(error),
                                                    "; make it or name a registry with -registry"));
}

}  // namespace evermap
