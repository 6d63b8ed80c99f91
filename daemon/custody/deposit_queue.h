// The queue before the store: registrations whose connections are not in the store yet, because it
// takes no more now, because there is no descriptor for a duplicate, or because it must not be
// given them as fast as nodes register (systemd_store.h).
//
// A connection that is not stored when the mapper dies is lost, and nothing else: see custody.h. A
// mapper that ends by itself stores all before, as far as the store takes them in time.
//
// Thread safety: belongs to the main thread.
// Invariants:
//   1  Each slot is in the queue at most once, with the latest registration that was added for it;
//      so the queue is bounded by the number of slots of the registry.
//   2  order_ has exactly the slots that are keys of young_.
#ifndef EVERMAP_DAEMON_CUSTODY_DEPOSIT_QUEUE_H_
#define EVERMAP_DAEMON_CUSTODY_DEPOSIT_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "registry/registration.h"

namespace evermap {

class DepositQueue {
 public:
  static constexpr int64_t kTickMs = 50;
  // How fast a store may be given connections.
  struct Pace {
    int64_t age_ms = 0;  // how long a registration lives before its connection is stored
    // A store compares each connection with all that it holds: so many comparisons it may make in
    // kTickMs.
    size_t comparisons_per_tick = std::numeric_limits<size_t>::max();
    bool is_bounded() const { return comparisons_per_tick < std::numeric_limits<size_t>::max(); }
  };

  enum class Outcome {
    kStored,
    kEnded,  // there is nothing to store any more
    kLater,  // nothing can be stored at this moment
  };
  // Stores the connection of a registration.
  using StoreFunction = absl::FunctionRef<Outcome(RegistrationRef node)>;

  explicit DepositQueue(Pace pace) : pace_(pace) {}

  // Takes the place of another registration of that slot. `now_ms`: MonotonicCoarseMs().
  void Add(RegistrationRef node, int64_t now_ms);
  // Whether there may be something for Store() to store: every kTickMs, and what is added to an
  // empty queue at its time.
  bool IsDue(int64_t now_ms) const { return !order_.empty() && now_ms >= wake_ms_; }
  // Stores what is due, while the store holds `held` connections; nothing unless IsDue().
  void Store(int64_t now_ms, size_t held, StoreFunction store);
  // Stores all, due or not, as far as that can be done at this moment.
  void StoreAll(StoreFunction store);
  // When it IsDue(), MonotonicCoarseMs(); nothing when the queue is empty.
  std::optional<int64_t> due_ms() const {
    return order_.empty() ? std::nullopt : std::optional(wake_ms_);
  }
  const Pace& pace() const { return pace_; }
  size_t size() const { return order_.size(); }

 private:
  struct Young {
    uint64_t id;
    int64_t due_ms;
  };

  const Pace pace_;
  absl::flat_hash_map<uint32_t, Young> young_;  // by slot
  std::deque<uint32_t> order_;                  // the slots in young_, once each
  int64_t wake_ms_ = 0;                         // means nothing while order_ is empty
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_DEPOSIT_QUEUE_H_
