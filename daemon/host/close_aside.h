// Closing descriptors where nobody waits for it.
//
// Thread safety: all functions may be called from any number of threads.
#ifndef EVERMAP_DAEMON_HOST_CLOSE_ASIDE_H_
#define EVERMAP_DAEMON_HOST_CLOSE_ASIDE_H_

#include <vector>

#include "registry/base/owned_fd.h"

namespace evermap {

// Closes these in a thread of its own, which takes the CPU that others leave: what the last descriptor of an
// epoll set costs grows with what it watches. In the calling thread where the kernel refuses another.
void CloseAside(std::vector<OwnedFd> fds);

// From now on the calling thread takes the CPU that others leave. It cannot be undone. Where changing the
// priority is not permitted, as in the systemd unit, nothing happens.
void GiveWay();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_CLOSE_ASIDE_H_
