// Who has a socket, in words for a log: the user by number and name, and the process.
//
// Thread safety: any thread. Both read files (/etc/passwd, /proc), so no worker may call them.
#ifndef EVERMAP_DAEMON_HOST_SOCKET_OWNER_H_
#define EVERMAP_DAEMON_HOST_SOCKET_OWNER_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace evermap {

// "user 1000 (alice)", without the name for one whom /etc/passwd lacks; "a user who cannot be told"
// for kUnknownUid. A directory service, which may keep one waiting, is not asked.
std::string UserText(uint32_t uid);

// The process that has the socket with this inode; the one with the lowest number of several. Looks at
// what /proc shows this user, with at most `budget` of the thread's CPU time: how busy others are does
// not matter. Nothing when it has not been found by then.
std::optional<pid_t> ProcessOfSocket(uint32_t inode, absl::Duration budget);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_SOCKET_OWNER_H_
