#include "daemon/process/pid_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "daemon/host/log.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr mode_t kMode = 0644;

std::string OwnText() { return absl::StrCat(getpid(), "\n"); }

}  // namespace

void PidFile::Remove() {
  if (path_.empty()) return;
  const std::string own = OwnText();
  std::array<char, 32> text;
  const OwnedFd file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const ssize_t size = file.valid() ? read(file.get(), text.data(), text.size()) : -1;
  if (size < 0 || own != std::string(text.data(), static_cast<size_t>(size))) return;
  unlink(path_.c_str());
  path_.clear();
}

void PidFile::Write(const std::string& path) {
  if (path.empty()) return;
  // Beside the file, so that rename(2) can put it in its place; no file of another's is written to.
  const std::string fresh = absl::StrCat(path, ".", getpid());
  unlink(fresh.c_str());
  const std::string own = OwnText();
  OwnedFd file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode));
  if (file.valid() &&
      write(file.get(), own.data(), own.size()) == static_cast<ssize_t>(own.size()) &&
      fchmod(file.get(), kMode) == 0 && rename(fresh.c_str(), path.c_str()) == 0) {
    path_ = path;
    return;
  }
  const int error = errno;
  if (file.valid()) unlink(fresh.c_str());
  Log(Severity::kError, "-pidfile: %s cannot be written: %s", path, ErrorText(error));
}

}  // namespace evermap
