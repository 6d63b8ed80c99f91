// Postponed: requests for names that cannot be decided yet, since the connection of the node that
// holds the name may be about to come from an earlier mapper (Decision::Outcome::kLater). Each waits
// for that connection alone.
//
// Thread safety: a Postponed belongs to one worker.
// Bounds: as many as connections; a request waits no longer than the adoption of the earlier
// mapper's connections takes (mapper/adoption.h).
#ifndef EVERMAP_DAEMON_SERVE_POSTPONED_H_
#define EVERMAP_DAEMON_SERVE_POSTPONED_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "daemon/names/registrar.h"
#include "registry/registration.h"

namespace evermap {

class Postponed {
 public:
  // How often is looked for connections that have come.
  static constexpr int64_t kLookMs = 1;

  struct Request {
    uint32_t connection;
    RegistrationRef holder;
    bool has_excess;
    int64_t begin_ns;
  };

  void Add(const Request& request) { requests_.push_back(request); }
  bool empty() const { return requests_.empty(); }
  // Those that may be decided by now, which wait no longer.
  std::vector<Request> TakeDecidable(const Registrar& registrar) {
    std::vector<Request> decidable;
    std::erase_if(requests_, [&](const Request& request) {
      if (!registrar.MayDecide(request.holder)) return false;
      decidable.push_back(request);
      return true;
    });
    return decidable;
  }

 private:
  std::vector<Request> requests_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_POSTPONED_H_
