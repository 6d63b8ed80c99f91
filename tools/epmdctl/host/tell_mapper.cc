#include "tools/epmdctl/host/tell_mapper.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>

#include "registry/base/file_text.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {

namespace {

// The effective user of a process; nothing when it has ended, or when there is no /proc.
std::optional<uid_t> UserOf(uint32_t pid) {
  constexpr std::string_view kUsers = "\nUid:\t";
  const std::string status = FileText("/proc/" + std::to_string(pid) + "/status");
  const size_t line = status.find(kUsers);
  if (line == std::string::npos) return std::nullopt;
  // The real one comes first.
  const size_t effective = status.find('\t', line + kUsers.size());
  if (effective == std::string::npos) return std::nullopt;
  return static_cast<uid_t>(std::strtoul(status.c_str() + effective, nullptr, 10));
}

}  // namespace

std::string TellMapper(const std::string& registry_path, const MapperStatus& mapper, int signal) {
  const std::string who = "the mapper, process " + std::to_string(mapper.pid) + ", ";
  const OwnedFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(mapper.pid), 0)));
  if (!pidfd.valid()) return who + "cannot be reached: " + ErrorText(errno);
  if (!IsRunning(mapper)) return who + "has just ended";
  struct stat registry;
  if (lstat(registry_path.c_str(), &registry) != 0) return who + "has no registry any more";
  const std::optional<uid_t> user = UserOf(mapper.pid);
  // Without a /proc nobody's user is told. Whoever has none has been put into a place of his own.
  if (!user.has_value() && UserOf(static_cast<uint32_t>(getpid())).has_value()) {
    return who + "has just ended";
  }
  if (user.has_value() && *user != registry.st_uid) {
    return who + "is not told: it is user " + std::to_string(*user) + "'s, and the registry " +
           registry_path + " that names it is user " + std::to_string(registry.st_uid) + "'s";
  }
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0) {
    return who + "cannot be told: " + ErrorText(errno) +
           (errno == EPERM ? "; run as its user or as root" : "");
  }
  return "";
}

}  // namespace evermap
