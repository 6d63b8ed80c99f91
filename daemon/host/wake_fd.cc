#include "daemon/host/wake_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace evermap {

OwnedFd MakeWakeFd() { return OwnedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

void Wake(int wake_fd) {
  const uint64_t one = 1;
  // A write fails only when the counter is full: then the descriptor is readable already.
  [[maybe_unused]] const ssize_t written = write(wake_fd, &one, sizeof(one));
}

void ClearWakes(int wake_fd) {
  uint64_t count = 0;
  // A read fails only when there was no wake.
  [[maybe_unused]] const ssize_t got = read(wake_fd, &count, sizeof(count));
}

}  // namespace evermap
