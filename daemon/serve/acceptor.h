// The acceptor: takes new connections from the listeners, refuses those that -allow does not let
// in, and deals with a full table of descriptors (descriptor_budget.h).
//
// Thread safety: an Acceptor belongs to one worker.
#ifndef EVERMAP_DAEMON_SERVE_ACCEPTOR_H_
#define EVERMAP_DAEMON_SERVE_ACCEPTOR_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "daemon/loop/loop.h"
#include "daemon/serve/access.h"
#include "daemon/serve/eviction.h"
#include "daemon/serve/exchange.h"
#include "daemon/serve/shared.h"
#include "registry/counters.h"

namespace evermap {

// How long accepting pauses when it failed and nothing can be done about it.
inline constexpr int64_t kAcceptPauseMs = 4;

class Acceptor {
 public:
  // All of these outlive the acceptor.
  Acceptor(Loop& loop, Shared& shared, Access& access, Exchange& exchange, Eviction& eviction,
           WorkerStatistics& statistics)
      : loop_(loop),
        shared_(shared),
        access_(access),
        exchange_(exchange),
        eviction_(eviction),
        statistics_(statistics) {}

  // Accepts from all listeners.
  void Start();
  // Accepts nothing more. Connections that were accepted earlier still come while is_accepting().
  void Stop();
  bool is_accepting() const { return loop_.IsAccepting(); }

  // Takes the new connection `fd`, whose number it returns: the caller reads from it first. Nothing
  // when the connection is refused; it is closed then.
  std::optional<uint32_t> OnAccepted(int fd);
  // Takes it that accept(2) failed on `listener`, which then pauses.
  void OnAcceptFailed(uint32_t listener, int error);

  // When the listeners that pause are accepted from again, MonotonicCoarseMs(); nothing: none
  // pauses.
  std::optional<int64_t> resume_ms() const {
    return paused_listeners_.empty() ? std::nullopt : std::optional(resume_ms_);
  }
  // Accepts from the listeners that pause, if it is time.
  void Resume(int64_t now_ms);

 private:
  Loop& loop_;
  Shared& shared_;
  Access& access_;
  Exchange& exchange_;
  Eviction& eviction_;
  WorkerStatistics& statistics_;
  std::vector<uint32_t> paused_listeners_;
  int64_t resume_ms_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_ACCEPTOR_H_
