// Orphans: registrations whose connection was lost through no act of the node, because the mapper
// and all others that held the connection died. Lookups still find an orphan as long as its node
// lives.
//
// A node lives as long as its distribution socket: the one on which it listens for other nodes, and
// which the registry knows by its cookie. An orphan whose socket is gone is ended. Where no socket
// is known, the orphan is ended after a grace time. Until then the node may come back (OTP 24 and
// later do so after two seconds) and adopt its registration (proof.h). Where the kernel does not
// tell, an orphan whose grace time is over stays as long as its port accepts a connection; one whose
// port cannot be tried, as without a descriptor, for that time again.
//
// Thread safety: an Orphans belongs to the main thread; LifeSigns may be used in any thread.
#ifndef EVERMAP_DAEMON_NAMES_ORPHANS_H_
#define EVERMAP_DAEMON_NAMES_ORPHANS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/host/sock_diag.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

// How often the main thread calls Orphans::Judge(), milliseconds.
inline constexpr int64_t kJudgeIntervalMs = 500;

enum class Life { kAlive, kGone, kUnknown };

// The sockets that listened when this was made, by which many orphans are judged at once: reading
// them costs 1 us each.
class LifeSigns {
 public:
  LifeSigns() : listeners_(ReadListeners()) {}
  // Whether the kernel has told which sockets listen.
  bool are_told() const { return listeners_.ok(); }
  // Whether the node of `orphan` lives. What the list of all sockets lacks is looked for once more, in
  // another list and by itself: the kernel makes a long list in parts, and a socket that is closed
  // meanwhile may hide one that is not.
  Life Of(const Registration& orphan);

 private:
  // Whether a connection to this host's loopback addresses would go to its socket.
  bool IsReached(const Registration& orphan);

  const absl::StatusOr<Listeners> listeners_;
  std::optional<absl::StatusOr<Listeners>> once_more_;
  SocketQuery query_{SocketQuery::Fallback::kNone};
};

class Orphans {
 public:
  Orphans(Registry& registry, absl::Duration grace) : registry_(registry), grace_(grace) {}

  // Watches a registration that is orphaned. One that is not is forgotten by the next Judge().
  void Add(uint32_t slot, uint64_t id) { orphans_.push_back({slot, id}); }
  // Orphans that are watched.
  size_t count() const { return orphans_.size(); }
  // Ends the orphans whose node is gone, or whose grace time is over without a sign of life, and
  // forgets those that have been adopted or have ended otherwise.
  void Judge();

 private:
  // How many ports are tried in one Judge() where the kernel does not tell which sockets listen: for
  // 2 ms. The others have their turn at the next ones.
  static constexpr int kProbesMax = 64;

  // Whether `orphan`, of which nothing is known, stays beyond its grace time; `probes_left` counts
  // down. Where its port cannot be tried, that is said by `may_be_asked_again`.
  static bool MayListen(const Registration& orphan, bool may_be_asked_again, int& probes_left);

  Registry& registry_;
  const absl::Duration grace_;
  std::vector<RegistrationRef> orphans_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_ORPHANS_H_
