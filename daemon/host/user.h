// Users of this host, by name and by number.
//
// Thread safety: any thread; a FoundUsers belongs to one. All of it reads files, so no worker may
// call it.
#ifndef EVERMAP_DAEMON_HOST_USER_H_
#define EVERMAP_DAEMON_HOST_USER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace evermap {

// The number of a user who is given by name or number; kUnknownUid (sock_diag.h) when there is none
// of that name, or it cannot be found out. May ask a directory service, and so take its time.
uint32_t UidOf(const std::string& user);

// "user 1000 (alice)", without the name for one whom /etc/passwd lacks; "a user who cannot be told"
// for kUnknownUid. A directory service, which may keep one waiting, is not asked.
std::string UserText(uint32_t uid);

// The numbers of users, each found out once.
class FoundUsers {
 public:
  using Numbers = absl::flat_hash_map<std::string, uint32_t>;

  FoundUsers() = default;
  // Of these nobody is asked any more.
  explicit FoundUsers(Numbers known) : numbers_(std::move(known)) {}

  // UidOf(), of which a number is kept, and that there is none is not.
  uint32_t Of(const std::string& user);
  // Those that were found out.
  const Numbers& numbers() const { return numbers_; }

 private:
  Numbers numbers_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_USER_H_
