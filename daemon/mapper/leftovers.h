// Leftovers: what an earlier mapper, whose listening sockets this one has, leaves undone when it
// dies or leaves. For kWatchMs two things are looked for:
//
//   - Connections that wait to be accepted. The earlier mapper's io_uring goes on waiting for
//     connections until the kernel has taken it apart, which may be some time after the process has
//     died. A connection for which the kernel woke that ring waits in the queue until somebody
//     looks.
//   - Registrations that nobody watches. An earlier mapper that registers a node while it leaves,
//     and dies before it has passed the connection on, leaves a registration whose end is seen by
//     nobody. It becomes an orphan.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_LEFTOVERS_H_
#define EVERMAP_DAEMON_MAPPER_LEFTOVERS_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "daemon/custody/custody.h"
#include "daemon/host/timers.h"
#include "daemon/mapper/restoration.h"
#include "daemon/names/registering.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

class Leftovers {
 public:
  // How long is looked for leftovers. The earlier mapper may still be about to end.
  static constexpr int64_t kWatchMs = 60'000;
  // The time between two looks at the queues of connections: the first, which then doubles up to
  // the longest.
  static constexpr int64_t kAcceptPauseMinMs = 10;
  static constexpr int64_t kAcceptPauseMaxMs = 1'000;
  // The time between two looks for registrations that nobody watches. One that is seen becomes an
  // orphan as soon as no worker can be about to take it into custody (names/registering.h).
  static constexpr int64_t kUnwatchedPauseMs = 1'000;

  // All of it outlives this. `accept_anew` has the workers look at their listening sockets; each
  // worker has one of `registering`.
  Leftovers(const Registry& registry, const Custody& custody, Restoration& restoration,
            Timers& timers, absl::Span<const int> listeners, std::function<void()> accept_anew,
            std::vector<const Registering*> registering);

  // Begins to look for both, or begins anew. `more_comes`: connections of the earlier mapper are
  // still handed over, or it is leaving and passes on what it registers; only connections that wait
  // are looked for, until this is called again when it has ended.
  void Watch(bool more_comes);

 private:
  void CheckAccepting();
  void CheckUnwatched();
  void LookForUnwatched();
  // Whether each worker was seen outside of a registration since LookForUnwatched().
  bool HaveAllPassed() const;

  const Registry& registry_;
  const Custody& custody_;
  Restoration& restoration_;
  const absl::Span<const int> listeners_;
  const std::function<void()> accept_anew_;
  Timer accept_check_;
  Timer unwatched_check_;
  int64_t watch_until_ms_ = 0;  // MonotonicCoarseMs()
  int64_t accept_pause_ms_ = kAcceptPauseMinMs;
  const std::vector<const Registering*> registering_;
  // Live registrations without a connection here, and the workers' marks read after they were seen.
  std::vector<RegistrationRef> unwatched_;
  std::vector<uint64_t> marks_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_LEFTOVERS_H_
