// Deposits: the way of nodes' connections from custody (custody.h) into the store (store.h).
//
// A registration that is added is stored at the store's pace (deposit_queue.h). Then a duplicate of
// its connection is put into the store, and sent. What the store does not take now is sent again a
// moment later; a store that is gone is tried again after a longer while, and store_is_gone() says
// so: whether another one can be started is the caller's business.
//
// Duplicates that wait for a store that is full take descriptors, so they are bounded, and are sent
// off when descriptors are short.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_CUSTODY_DEPOSITS_H_
#define EVERMAP_DAEMON_CUSTODY_DEPOSITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "daemon/custody/custody.h"
#include "daemon/custody/deposit_queue.h"
#include "daemon/custody/store.h"
#include "daemon/host/log.h"
#include "daemon/host/timers.h"
#include "registry/base/owned_fd.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

class Deposits {
 public:
  // How long a store that cannot take more is left alone, and one that is gone.
  static constexpr int64_t kFullPauseMs = 50;
  static constexpr int64_t kGonePauseMs = 1000;

  // All of it outlives this. `duplicates_max`: how many duplicates of connections wait for the
  // store at a time.
  Deposits(Store& store, const Custody& custody, Registry& registry, size_t duplicates_max,
           Timers& timers);

  // Has the connection of a registration stored when it is due; nothing happens without a store.
  void Add(RegistrationRef node);
  // Adds all that is in custody: for a store that has nothing yet.
  void AddAll();
  // Stores what the pace lets pass now, and sends it. To be called after Add(); what is due later
  // is then stored by a timer.
  void StoreDue();
  // Sends what was put into the store, and plans to do so again when it does not take all.
  void Flush();
  // At the end of the mapper: stores all, waiting for room until `deadline` (SteadyNow()). Returns
  // how many connections could not be stored.
  size_t StoreAll(absl::Time deadline);

  // Whether the store was gone when it was last sent something.
  bool store_is_gone() const { return store_is_gone_; }

  // Custody::Duplicate(), after duplicates that wait were sent off when there is no descriptor.
  OwnedFd Duplicate(const Registration& node);

 private:
  DepositQueue::Outcome Deposit(RegistrationRef node);
  void PlanDue();

  Store& store_;
  const Custody& custody_;
  Registry& registry_;
  const size_t duplicates_max_;
  DepositQueue queue_;
  Timer due_;    // something in queue_ is
  Timer flush_;  // what waits for the store is to be tried again
  bool store_is_gone_ = false;
  LogLimiter log_late_;
  Registration found_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_DEPOSITS_H_
