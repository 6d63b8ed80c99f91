// The queue before systemd's store, which must not be given connections as fast as nodes register.
//
// For each descriptor that it takes systemd (252; it is the same in later ones) compares it with
// all that it holds, one system call each, and does nothing else meanwhile. With 3,000 nodes a few
// hundred registrations a second keep the first process of the machine busy for good, so that it
// starts and stops nothing any more. So a connection is stored when it has lived for a moment,
// which those of clients that register in a loop do not, and then no more are than systemd has the
// time for.
//
// A connection that is not stored when the mapper dies is lost, and nothing else: see custody.h. A
// mapper that ends by itself stores all before.
//
// Thread safety: belongs to the main thread. Bounded by the number of slots of the registry.
#ifndef EVERMAP_DAEMON_STORE_QUEUE_H_
#define EVERMAP_DAEMON_STORE_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"

namespace evermap {

class StoreQueue {
 public:
  static constexpr int64_t kAgeMs = 1000;
  static constexpr int64_t kTickMs = 50;
  // Of 1 us each (measured): a fifth of the time of one core at most.
  static constexpr size_t kComparisonsPerTick = 10'000;

  // Stores the connection of the registration `id`; false when it was not to be stored any more.
  using StoreFunction = absl::FunctionRef<bool(uint32_t slot, uint64_t id)>;

  // Takes the place of another registration of that slot. `now_ms`: MonotonicMs().
  void Add(uint32_t slot, uint64_t id, int64_t now_ms);
  // Stores what is due, while systemd holds `stored` connections.
  void Store(int64_t now_ms, size_t stored, StoreFunction store);
  void StoreAll(StoreFunction store);
  // When to call Store(); -1: there is nothing to store.
  int64_t wake_ms() const { return order_.empty() ? -1 : wake_ms_; }
  size_t size() const { return order_.size(); }

 private:
  struct Young {
    uint64_t id;
    int64_t due_ms;
  };

  absl::flat_hash_map<uint32_t, Young> young_;  // by slot
  std::deque<uint32_t> order_;                  // the slots in young_, once each
  int64_t wake_ms_ = -1;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_STORE_QUEUE_H_
