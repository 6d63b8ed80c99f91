// Who holds the sockets of a mapper, and whether a process has to start a keeper for that: what is
// decided by kinds of stores (store.h) is decided here.
//
// A further store is a value of Holder and when it is that (HolderOf()), a class, and its case of
// ChooseStore(). One that a mapper inherits a link to has a variable in words.h, which
// process/inheritance.cc reads.
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_CUSTODY_CHOOSE_STORE_H_
#define EVERMAP_DAEMON_CUSTODY_CHOOSE_STORE_H_

#include <cstdint>
#include <memory>

#include "daemon/custody/keeper_store.h"
#include "daemon/custody/store.h"
#include "registry/base/owned_fd.h"

namespace evermap {

enum class Holder : uint8_t { kNobody, kKeeper, kSystemd };

// What a process knows of those who could hold its sockets.
struct HoldersAround {
  bool has_keeper = false;         // it inherits the link to a keeper
  bool has_notify_socket = false;  // $NOTIFY_SOCKET is set: systemd, or something like it, listens
  bool is_daemon = false;          // -daemon: NOTIFY_SOCKET is its starter's, and does not count
};

// Who holds the sockets of a process with these around. Pure.
Holder HolderOf(const HoldersAround& around);

// Whether a process that is to serve has to be a keeper first, which starts the mapper: nobody
// holds its sockets, and `wants_none` (-no_keeper) is false. Pure.
bool NeedsKeeper(const HoldersAround& around, bool wants_none);

struct ChosenStore {
  std::unique_ptr<Store> store;   // never null
  KeeperStore* keeper = nullptr;  // the same store, when the mapper replaces it if it dies
};
// The store of a mapper that has inherited `keeper_link`, which is invalid where there is none.
// Looks at $NOTIFY_SOCKET. When that cannot be reached, the log says so, and nothing is held.
ChosenStore ChooseStore(OwnedFd keeper_link, bool is_daemon);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_CHOOSE_STORE_H_
