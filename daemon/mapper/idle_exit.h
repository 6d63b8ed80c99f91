// -idle_exit: the mapper ends by itself when no node has been registered for a while, on a desktop or
// in a job of a CI that starts one and forgets it. The time begins with the mapper, too: one that
// nobody uses is not left behind either.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_IDLE_EXIT_H_
#define EVERMAP_DAEMON_MAPPER_IDLE_EXIT_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "daemon/host/timers.h"
#include "daemon/mapper/pausing.h"
#include "registry/registry.h"

namespace evermap {

class IdleExit {
 public:
  // How often it is looked whether a node is registered: nobody tells the main thread that one
  // leaves.
  static constexpr int64_t kLookMs = 1000;

  // `end` tells the mapper to end; the workers pause then. All of it outlives this.
  IdleExit(const Registry& registry, const std::vector<int>& listeners, Timers& timers,
           Pausing pausing, std::function<void()> end);

  // From now on after `idle`; zero: never. The time that has passed counts.
  void Set(absl::Duration idle);
  // A node has registered. It may leave before it is looked.
  void OnRegistered();

 private:
  void Look();
  // Ends the mapper unless somebody has just come. Whether it did.
  bool End();

  const Registry& registry_;
  const std::vector<int>& listeners_;
  const Pausing pausing_;
  const std::function<void()> end_;
  Timer look_;
  int64_t idle_ms_ = 0;
  int64_t idle_since_ms_;  // MonotonicCoarseMs() when a node was last seen
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_IDLE_EXIT_H_
