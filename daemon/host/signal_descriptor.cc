#include "daemon/host/signal_descriptor.h"

#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>

namespace evermap {

OwnedFd SignalDescriptor(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    errno = error;
    return {};
  }
  signal(SIGPIPE, SIG_IGN);
  return OwnedFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace evermap
