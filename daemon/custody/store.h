// The store: the process that holds the mapper's sockets for the next mapper. It is systemd's
// file-descriptor store (systemd_store.h), our keeper (keeper_store.h), or nobody (no_store.h);
// systemd and the keeper are told the same (notify.h).
//
// A connection is never taken out of a store by name (FDSTOREREMOVE=1): both let it go when it
// hangs up, which it does when its node has closed it and the mapper has shut it down. So a
// connection is in the store exactly as long as a mapper could still have use for it, and the
// names, all alike and short, do not exceed the 128 KiB that one variable of the environment
// (LISTEN_FDNAMES) may have.
//
// The files of the claim to the registry (registry/claim.h) do not hang up. Each has a name of its own,
// under which it is let go when another one has taken its place. They are in the store before the
// first connection, since connections without them would lead to an empty registry (INV-12).
//
// What differs between stores is a function here. Which kind a store is choose_store.h decides, and
// two ask for it outside: a process whether it has to become a keeper (role.cc), and the mapper
// whether its store is one that it replaces when it dies (ChosenStore::keeper, mapper/mapper.cc).
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_CUSTODY_STORE_H_
#define EVERMAP_DAEMON_CUSTODY_STORE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/custody/deposit_queue.h"
#include "registry/base/owned_fd.h"
#include "registry/claim.h"

namespace evermap {

class Store {
 public:
  // How long a store may take to make room for what it is told.
  static constexpr absl::Duration kTellTimeout = absl::Seconds(5);

  virtual ~Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // What the mapper's status calls it: "keeper", "systemd", "none".
  virtual std::string_view name() const = 0;
  // False when nothing is held: then a mapper that dies, or is upgraded, loses all connections.
  virtual bool holds() const { return true; }
  // Whether it goes on holding what it has when the mapper ends by itself, for one that is started
  // later. A connection that could not be put into it is then a loss at every end of a mapper.
  virtual bool outlives_mapper() const = 0;
  // How fast it may be given connections.
  virtual DepositQueue::Pace pace() const = 0;
  // The link that a successor has to inherit to reach the same store, and that hangs up when the
  // store is gone; -1 when there is none. The store's.
  virtual int link() const { return -1; }
  // The variable of words.h in which a successor finds the number of that link; null when there is
  // none.
  virtual const char* link_variable() const { return nullptr; }

  // Tells the store to hold the files of the claim, in this order, before anything that it is told
  // later, and then to let those go whose names are `outdated`. False when it does not listen.
  virtual bool HoldFiles(absl::Span<const Claim::File> files,
                         absl::Span<const std::string> outdated) = 0;
  // Waits until the store has done what it was told before, at most kTellTimeout. False when it has
  // not. A store that is given what waits in its link even when the mapper has died is not waited for.
  virtual bool AwaitHeld() { return true; }
  // Has the store let these files go: a program takes over that knows nothing of them.
  virtual void ForgetFiles(absl::Span<const Claim::File> files) = 0;
  // Has the store hold these sets (loop/ready_set.h), which stay the caller's, while this process is the
  // mapper. To close the last descriptor of a set costs a microsecond for each connection in it, and
  // a process that is killed would pay that before anybody sees that it has ended
  // (bench/RESULTS.md). A store that cannot hold them does nothing.
  virtual void HoldReadySets(absl::Span<const int> /*sets*/) {}
  // Has the store hold `fd`, once a Flush() has sent it. The store's from now on.
  virtual void Put(OwnedFd fd) = 0;
  // Sends as much as the store takes now. False when it is gone; what was not sent waits on.
  virtual bool Flush() = 0;
  // How many of those that were Put() are not sent yet.
  virtual size_t waiting() const = 0;
  // Says in the log what the loss of the store means, for a store that nothing can replace.
  virtual void WarnOfLoss() const {}

  // Says that this process is the mapper from now on. False when it must not be, because the store
  // has begun to start another one.
  virtual bool AnnounceMapper() = 0;
  // Says that the mapper ends because it was told to, and no other one is to be started.
  virtual void AnnounceStopping() = 0;

  // Sends all, waiting for room until `deadline` (SteadyNow()). False when the store is gone.
  bool FlushPatiently(absl::Time deadline);

 protected:
  Store() = default;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_STORE_H_
