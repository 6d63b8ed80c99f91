// The process that has a socket.
//
// Thread safety: any thread. It reads /proc, so no worker may call it.
#ifndef EVERMAP_DAEMON_HOST_SOCKET_OWNER_H_
#define EVERMAP_DAEMON_HOST_SOCKET_OWNER_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace evermap {

// The process that has the socket with this inode; the one with the lowest number of several. Looks at
// what /proc shows this user, with at most `budget` of the thread's CPU time: how busy others are does
// not matter. Nothing when it has not been found by then.
std::optional<pid_t> ProcessOfSocket(uint32_t inode, absl::Duration budget);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_SOCKET_OWNER_H_
