#include "daemon/host/wake_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace evermap {

OwnedFd MakeWakeFd() { return OwnedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

void Wake(int wake_fd) {
  const uint64_t one = 1;
  // When the counter is full, the descriptor is readable already.
  while (write(wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

void ClearWakes(int wake_fd) {
  uint64_t count = 0;
  // A read fails only when there was no wake.
  [[maybe_unused]] const ssize_t got = read(wake_fd, &count, sizeof(count));
}

}  // namespace evermap
