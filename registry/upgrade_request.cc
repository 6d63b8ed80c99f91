#include "registry/upgrade_request.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <climits>
#include <string_view>

#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

std::string RequestPath(const std::string& registry_path) { return registry_path + ".upgrade"; }

// Whether only root and the user of this process can have written the file.
bool IsOfUs(const struct stat& file) {
  return S_ISREG(file.st_mode) && (file.st_uid == geteuid() || file.st_uid == 0) &&
         (file.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// Gives the open file to the owner of the registry, which is another user when root asks for the
// upgrade.
bool GiveToOwner(int fd, const std::string& registry_path) {
  struct stat registry;
  if (stat(registry_path.c_str(), &registry) != 0) return false;
  return registry.st_uid == geteuid() || fchown(fd, registry.st_uid, registry.st_gid) == 0;
}

}  // namespace

std::string WriteUpgradeRequest(const std::string& registry_path, const std::string& program) {
  assert(program.starts_with('/'));
  const std::string path = RequestPath(registry_path);
  const std::string temporary = path + "." + std::to_string(getpid());
  // A process of the same id may have left it.
  unlink(temporary.c_str());
  const OwnedFd fd(
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return temporary + ": cannot be created: " + ErrorText(errno);
  std::string complaint;
  if (write(fd.get(), program.data(), program.size()) != static_cast<ssize_t>(program.size())) {
    complaint = temporary + ": cannot be written: " + ErrorText(errno);
  } else if (!GiveToOwner(fd.get(), registry_path)) {
    complaint = temporary + ": cannot be given to the mapper's user: " + ErrorText(errno);
  } else if (rename(temporary.c_str(), path.c_str()) != 0) {
    complaint = path + ": cannot be named: " + ErrorText(errno);
  }
  if (!complaint.empty()) unlink(temporary.c_str());
  return complaint;
}

void RemoveUpgradeRequest(const std::string& registry_path) {
  unlink(RequestPath(registry_path).c_str());
}

UpgradeRequest TakeUpgradeRequest(const std::string& registry_path) {
  const std::string path = RequestPath(registry_path);
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return {};
  unlink(path.c_str());
  struct stat file;
  if (fstat(fd.get(), &file) != 0 || !IsOfUs(file)) {
    return {.complaint = path + " is not believed: others may write to it"};
  }
  std::array<char, PATH_MAX> text;
  const ssize_t size = read(fd.get(), text.data(), text.size());
  std::string_view program(text.data(), size > 0 ? static_cast<size_t>(size) : 0);
  if (program.ends_with('\n')) program.remove_suffix(1);
  if (!program.starts_with('/')) return {};
  return {.program = std::string(program)};
}

}  // namespace evermap
