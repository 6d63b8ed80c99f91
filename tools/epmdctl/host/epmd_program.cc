#include "tools/epmdctl/host/epmd_program.h"

#include <unistd.h>

#include <array>
#include <charconv>
#include <climits>
#include <filesystem>
#include <iterator>
#include <set>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/base/file_text.h"
#include "registry/location.h"

namespace evermap {
namespace {

// What -version of ours prints begins so; no other program has it.
constexpr char kOurVersionText[] = "epmd (Evermap)";
constexpr char kErtsFolder[] = "/erts-";

using Version = std::vector<unsigned>;

// The first versions of each release that are mended.
const std::array<Version, 3>& Mended() {
  static const std::array<Version, 3> kMended = {Version{15, 2, 7, 11}, Version{16, 4, 0, 4},
                                                 Version{17, 0, 4}};
  return kMended;
}

Version ParseVersion(std::string_view text) {
  Version version;
  while (!text.empty()) {
    unsigned number = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    if (parsed.ec != std::errc()) return {};
    version.push_back(number);
    text.remove_prefix(static_cast<size_t>(parsed.ptr - text.data()));
    if (text.starts_with('.')) text.remove_prefix(1);
  }
  return version;
}

// The registry that a process has open: a file that has its lock file beside it, open as well.
std::string RegistryOf(pid_t pid) {
  std::set<std::string> open;
  std::error_code error;
  std::filesystem::directory_iterator descriptor(absl::StrCat("/proc/", pid, "/fd"), error);
  while (!error && descriptor != std::filesystem::directory_iterator()) {
    std::error_code is_closed;
    open.insert(std::filesystem::read_symlink(descriptor->path(), is_closed).string());
    descriptor.increment(error);
  }
  for (const std::string& path : open) {
    if (open.contains(LockPath(path))) return path;
  }
  return "";
}

}  // namespace

std::string ErtsVersionIn(std::string_view path) {
  const size_t at = path.rfind(kErtsFolder);
  if (at == std::string_view::npos) return "";
  path.remove_prefix(at + sizeof(kErtsFolder) - 1);
  const std::string_view version = path.substr(0, path.find('/'));
  return ParseVersion(version).empty() ? "" : std::string(version);
}

std::optional<bool> HasCve202642792(std::string_view erts_version) {
  const Version version = ParseVersion(erts_version);
  if (version.empty()) return std::nullopt;
  for (const Version& mended : Mended()) {
    if (version.front() == mended.front()) return version < mended;
  }
  return version < Mended().front();
}

std::optional<EpmdProgram> ProgramOf(pid_t pid) {
  const std::string link = absl::StrCat("/proc/", pid, "/exe");
  std::array<char, PATH_MAX> path;
  const ssize_t size = readlink(link.c_str(), path.data(), path.size());
  if (size <= 0) return std::nullopt;
  EpmdProgram program = {.path = std::string(path.data(), static_cast<size_t>(size))};
  program.is_evermap = FileText(link).find(kOurVersionText) != std::string::npos;
  if (program.is_evermap) {
    program.registry = RegistryOf(pid);
  } else {
    program.erts_version = ErtsVersionIn(program.path);
  }
  return program;
}

}  // namespace evermap
