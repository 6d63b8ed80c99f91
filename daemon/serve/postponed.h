// Postponed: requests for names that cannot be decided yet. Each waits for one thing alone:
//
//   kConnection  the connection of the node that holds the name, which may be about to come from an
//                earlier mapper (Decision::Outcome::kLater)
//   kLook        the main thread is finding out who holds the name and who asks (names/disputes.h)
//   kHolder      the holder's end (-name_wait)
//
// Thread safety: a Postponed belongs to one worker.
// Bounds: as many as connections. A request waits no longer than the adoption of the earlier mapper's
// connections takes (mapper/adoption.h), kLookPatienceMs and -name_wait.
#ifndef EVERMAP_DAEMON_SERVE_POSTPONED_H_
#define EVERMAP_DAEMON_SERVE_POSTPONED_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "daemon/names/disputes.h"
#include "registry/registration.h"

namespace evermap {

enum class Wait : uint8_t { kConnection, kLook, kHolder };

class Postponed {
 public:
  // How often it is looked for connections that have come.
  static constexpr int64_t kConnectionLookMs = 1;
  // How often it is looked for holders that have ended.
  static constexpr int64_t kHolderLookMs = 10;
  // How long the main thread is waited for. It may be busy, and nobody's answer depends on it.
  static constexpr int64_t kLookPatienceMs = 250;

  struct Request {
    uint32_t connection;
    RegistrationRef holder;
    Dispute dispute;
    Wait wait;
    bool has_excess;
    int64_t begin_ns;
    int64_t look_end_ms;  // kLook, MonotonicCoarseMs()
  };

  void Add(const Request& request) { requests_.push_back(request); }
  bool empty() const { return requests_.empty(); }
  // Takes out, in their order, those that wait no longer; valid until the next call.
  const std::vector<Request>& Take(absl::FunctionRef<bool(const Request&)> waits_no_longer) {
    taken_.clear();
    std::erase_if(requests_, [&](const Request& request) {
      if (!waits_no_longer(request)) return false;
      taken_.push_back(request);
      return true;
    });
    return taken_;
  }
  // How long until something is to be looked at. REQUIRES: !empty().
  int64_t NextLookMs() const {
    int64_t next_ms = kLookPatienceMs;
    for (const Request& request : requests_) {
      if (request.wait == Wait::kConnection) return kConnectionLookMs;
      if (request.wait == Wait::kHolder) next_ms = kHolderLookMs;
    }
    return next_ms;
  }

 private:
  std::vector<Request> requests_;
  std::vector<Request> taken_;  // kept for its memory
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_POSTPONED_H_
