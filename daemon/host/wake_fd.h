// Wake descriptors: eventfd(2), by which any thread makes another one return from poll(2).
//
//   const OwnedFd wake_fd = MakeWakeFd();
//   Wake(wake_fd.get());          // in any thread, or a signal handler
//   ClearWakes(wake_fd.get());    // in the thread that was woken, before it looks why
//
// Any number of wakes before a ClearWakes() count as one.
#ifndef EVERMAP_DAEMON_HOST_WAKE_FD_H_
#define EVERMAP_DAEMON_HOST_WAKE_FD_H_

#include "registry/base/owned_fd.h"

namespace evermap {

// Readable when it was woken. Non-blocking, close-on-exec; invalid with errno when there is no
// descriptor to be had.
OwnedFd MakeWakeFd();
void Wake(int wake_fd);
void ClearWakes(int wake_fd);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_WAKE_FD_H_
