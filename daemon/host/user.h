// Users of this host, by name and by number.
//
// Thread safety: any thread. Both read files, so no worker may call them.
#ifndef EVERMAP_DAEMON_HOST_USER_H_
#define EVERMAP_DAEMON_HOST_USER_H_

#include <cstdint>
#include <string>

namespace evermap {

// The number of a user who is given by name or number; kUnknownUid (sock_diag.h) when there is none
// of that name, or it cannot be found out. May ask a directory service, and so take its time.
uint32_t UidOf(const std::string& user);

// "user 1000 (alice)", without the name for one whom /etc/passwd lacks; "a user who cannot be told"
// for kUnknownUid. A directory service, which may keep one waiting, is not asked.
std::string UserText(uint32_t uid);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_USER_H_
