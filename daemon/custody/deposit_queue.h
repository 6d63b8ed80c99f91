// The queue before the store: connections that are not in it yet, because it does not take them
// now, because there is no descriptor for a duplicate, or because it must not be given them as fast
// as nodes register.
//
// The last is so with systemd. For each descriptor that it takes systemd (252; it is the same in
// later ones) compares it with all that it holds, one system call each, and does nothing else
// meanwhile. With 3,000 nodes a few hundred registrations a second keep the first process of the
// machine busy for good, so that it starts and stops nothing any more. So a connection is stored
// when it has lived for a moment, which those of clients that register in a loop do not, and then
// no more are than systemd has the time for.
//
// A connection that is not stored when the mapper dies is lost, and nothing else: see custody.h. A
// mapper that ends by itself stores all before, as far as the store takes them in time.
//
// Thread safety: belongs to the main thread. Bounded by the number of slots of the registry.
#ifndef EVERMAP_DAEMON_CUSTODY_DEPOSIT_QUEUE_H_
#define EVERMAP_DAEMON_CUSTODY_DEPOSIT_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"

namespace evermap {

class StoreQueue {
 public:
  static constexpr int64_t kTickMs = 50;
  struct Pace {
    int64_t age_ms;  // of a registration, before its connection is stored
    size_t comparisons_per_tick;
  };
  static constexpr Pace kKeeperPace = {.age_ms = 0,
                                       .comparisons_per_tick = std::numeric_limits<size_t>::max()};
  // Comparisons of 1 us each (measured): a fifth of the time of one core at most.
  static constexpr Pace kSystemdPace = {.age_ms = 1000, .comparisons_per_tick = 10'000};

  enum class Outcome {
    kStored,
    kEnded,  // there is nothing to store any more
    kLater,  // nothing can be stored at this moment
  };
  // Stores the connection of the registration `id`.
  using StoreFunction = absl::FunctionRef<Outcome(uint32_t slot, uint64_t id)>;

  explicit StoreQueue(Pace pace) : pace_(pace) {}

  // Takes the place of another registration of that slot. `now_ms`: MonotonicCoarseMs().
  void Add(uint32_t slot, uint64_t id, int64_t now_ms);
  // Whether there may be something for Store() to store: every kTickMs, and what is added to an
  // empty queue at its time.
  bool IsDue(int64_t now_ms) const { return !order_.empty() && now_ms >= wake_ms_; }
  // Stores what is due, while the store holds `stored` connections; nothing unless IsDue().
  void Store(int64_t now_ms, size_t stored, StoreFunction store);
  // Stores all, due or not, as far as that can be done at this moment.
  void StoreAll(StoreFunction store);
  // When it IsDue(); -1: there is nothing to store.
  int64_t wake_ms() const { return order_.empty() ? -1 : wake_ms_; }
  size_t size() const { return order_.size(); }

 private:
  struct Young {
    uint64_t id;
    int64_t due_ms;
  };

  Pace pace_;
  absl::flat_hash_map<uint32_t, Young> young_;  // by slot
  std::deque<uint32_t> order_;                  // the slots in young_, once each
  int64_t wake_ms_ = -1;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_DEPOSIT_QUEUE_H_
