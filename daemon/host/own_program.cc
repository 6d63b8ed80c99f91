#include "daemon/host/own_program.h"

#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace evermap {
namespace {

// The kernel appends this when the file has been replaced or removed.
constexpr std::string_view kDeletedSuffix = " (deleted)";

// The path that execve(2) was given, made absolute. Looked at once, since a relative one is of the
// directory in which this process has begun.
const std::string& AsExecuted() {
  static const std::string path = [] {
    const auto* const given = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
    char* const whole = given != nullptr ? realpath(given, nullptr) : nullptr;
    std::string found = whole != nullptr ? whole : "";
    free(whole);
    return found;
  }();
  return path;
}

}  // namespace

std::string OwnProgram() {
  const char* named = getenv(kBinaryVariable);
  if (named != nullptr && named[0] == '/') return named;
  std::array<char, PATH_MAX> text;
  const ssize_t size = readlink(kOwnProgramLink, text.data(), text.size());
  if (size <= 0) return AsExecuted();
  std::string_view path(text.data(), static_cast<size_t>(size));
  if (path.ends_with(kDeletedSuffix)) path.remove_suffix(kDeletedSuffix.size());
  return std::string(path);
}

std::string OtherProgramOf(pid_t pid, const std::string& named) {
  std::string program = absl::StrCat("/proc/", pid, "/exe");
  struct stat own;
  struct stat its;
  if (stat(program.c_str(), &its) != 0) program = named;
  if (stat(kOwnProgramLink, &own) != 0 || stat(program.c_str(), &its) != 0 ||
      (own.st_dev == its.st_dev && own.st_ino == its.st_ino) ||
      access(program.c_str(), X_OK) != 0) {
    return {};
  }
  return program;
}

}  // namespace evermap
