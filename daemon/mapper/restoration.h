// Restoration: a mapper finds for each connection that it was handed the registration that the
// connection keeps alive, and watches it again. A registration without a connection becomes an
// orphan (names/orphans.h).
//
//   Restoration restoration(...);          // while nobody registers anything
//   restoration.ReadRegistry();            // from here on the workers may serve
//   restoration.Restore(connections);      // as often as connections come
//   restoration.OrphanTheRest();
//
// Connections are told by their SO_COOKIE alone, which the registration has (INV-9): not by the
// number or the name under which they came.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_RESTORATION_H_
#define EVERMAP_DAEMON_MAPPER_RESTORATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/custody/custody.h"
#include "daemon/host/timers.h"
#include "daemon/names/inquiry.h"
#include "daemon/names/orphans.h"
#include "registry/base/owned_fd.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

class Restoration {
 public:
  // Has a worker watch a connection, which is in custody already.
  using Give = std::function<void(OwnedFd connection, RegistrationRef node)>;

  // All of it outlives this. `orphan_grace`: how long an orphan stays of which it is not known
  // whether its node lives. What is registered at this time is an earlier mapper's.
  Restoration(Registry& registry, Custody& custody, Inquiry& inquiry, Timers& timers,
              absl::Duration orphan_grace, Give give);

  // Finds the registrations to which connections may belong that come next. Costs less than a
  // microsecond for each.
  void ReadRegistry();
  // Gives out these connections. Those whose registrations have ended are shut down. Returns how
  // many custody holds since.
  size_t Restore(std::vector<OwnedFd> connections);
  // All connections have come that there were: makes orphans of the earlier mapper's registrations
  // that have none, and forgets what ReadRegistry() has found.
  void OrphanTheRest();
  // ReadRegistry() and Restore(), for connections that the predecessor passes on late.
  void RestoreLate(std::vector<OwnedFd> connections);
  // Makes orphans of those of these registrations that are live and have no connection here.
  void OrphanUnwatched(absl::Span<const RegistrationRef> nodes);

 private:
  struct Known {
    RegistrationRef node;
    bool is_orphaned;
    bool has_user;
    bool has_distribution_socket;
  };

  // Whether custody has counted it.
  bool RestoreOne(OwnedFd connection);
  // Whether the registration has ended, so that no connection is its any more.
  bool HasEnded(RegistrationRef node);
  // False when the registration has a connection here, has ended, or was an orphan before.
  bool MakeOrphan(const Known& known);
  void CountOrphaned(uint32_t count);
  void JudgeOrphans();

  Registry& registry_;
  Custody& custody_;
  Inquiry& inquiry_;
  const Give give_;
  const uint64_t last_earlier_id_;                   // of the registrations of earlier mappers
  absl::flat_hash_map<uint64_t, Known> registered_;  // by the cookie of the connection
  Orphans orphans_;
  Timer judge_;
  int64_t next_judgement_ms_ = 0;  // MonotonicCoarseMs(); no judgement before
  Registration found_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_RESTORATION_H_
