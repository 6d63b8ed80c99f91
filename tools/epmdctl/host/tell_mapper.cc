#include "tools/epmdctl/host/tell_mapper.h"

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>

#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {

std::string TellMapper(const MapperStatus& mapper, int signal) {
  const std::string who = "the mapper, process " + std::to_string(mapper.pid) + ", ";
  const OwnedFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(mapper.pid), 0)));
  if (!pidfd.valid()) return who + "cannot be reached: " + ErrorText(errno);
  if (!IsRunning(mapper)) return who + "has just ended";
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0) {
    return who + "cannot be told: " + ErrorText(errno) +
           (errno == EPERM ? "; run as its user or as root" : "");
  }
  return "";
}

}  // namespace evermap
