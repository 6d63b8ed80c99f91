// Orphans: registrations whose connection was lost without the node's doing, with the mapper and
// everybody who held it. They are still looked up, as long as their node lives.
//
// A node lives as long as the socket on which it listens for other nodes, which the registry knows
// by its cookie. An orphan whose socket is gone is ended at once; one of which no socket is known,
// or where the kernel does not tell, is ended after a grace time. Meanwhile the node may come back
// (OTP 24 and later do so after two seconds) and adopt its registration: see Worker::Register().
//
// Thread safety: an Orphans belongs to the main thread; LifeOf() may be called in any.
#ifndef EVERMAP_DAEMON_NAMES_ORPHANS_H_
#define EVERMAP_DAEMON_NAMES_ORPHANS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/host/sock_diag.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

// How often orphans are looked at.
inline constexpr int64_t kJudgeIntervalMs = 500;

enum class Life { kAlive, kGone, kUnknown };
// Of the node of an orphan.
Life LifeOf(const Registration& orphan, const absl::StatusOr<Listeners>& listeners);

class Orphans {
 public:
  Orphans(Registry& registry, absl::Duration grace) : registry_(registry), grace_(grace) {}

  // REQUIRES: the registration is orphaned.
  void Add(uint32_t slot, uint64_t id) { orphans_.push_back({slot, id}); }
  size_t count() const { return orphans_.size(); }
  // Ends those whose node is gone, or whose grace is over, and forgets those that were adopted.
  void Judge();

 private:
  struct Orphan {
    uint32_t slot;
    uint64_t id;
  };

  Registry& registry_;
  const absl::Duration grace_;
  std::vector<Orphan> orphans_;
  Registration found_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_ORPHANS_H_
