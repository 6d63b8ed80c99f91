// Inquiry: what is found out about a node after its registration, and written into the registry
// (Registry::Amend()).
//
//   - Its distribution socket, the one on which it listens for other nodes: as long as that socket
//     is there the node lives (orphans.h). It is asked for when the node registers; a node may
//     listen on one address and register through another, so what is not found then is looked for
//     among all sockets of the host that listen.
//   - Its user, which is only displayed (epmdctl, epmd-exporter) and costs 4 us to find out: it is
//     asked for a moment later, for nodes that are still there, and not while many register.
//
// Thread safety: belongs to the main thread.
// Bounds: kUnknownUsersMax nodes wait for their user; nodes whose distribution socket is unknown
// wait for one search, at most kSearchIntervalMs.
#ifndef EVERMAP_DAEMON_NAMES_INQUIRY_H_
#define EVERMAP_DAEMON_NAMES_INQUIRY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "daemon/custody/custody.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/timers.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

class Inquiry {
 public:
  // How long a node has lived when its user is asked for.
  static constexpr int64_t kUserDelayMs = 1000;
  // How many users are asked for before the main thread looks what else is to be done.
  static constexpr int kUsersPerTurn = 64;
  // Of further nodes that register within kUserDelayMs the user stays unknown.
  static constexpr size_t kUnknownUsersMax = 65536;
  // The least time between two searches among all sockets of the host.
  static constexpr int64_t kSearchIntervalMs = 1000;

  // All of it outlives this.
  Inquiry(Registry& registry, const Custody& custody, Timers& timers);

  // Finds out about a node that has just registered.
  void Add(const Registration& node);
  // The same for one of the two: for nodes of which an earlier mapper has not found it out.
  void AskForUser(RegistrationRef node);
  void SearchDistributionSocket(RegistrationRef node);

 private:
  struct UnknownUser {
    RegistrationRef node;
    int64_t due_ms;  // MonotonicCoarseMs()
  };

  // 0 when it is not found.
  uint64_t DistributionSocketOf(const Registration& node);
  void FindUsers();
  void FindDistributionSockets();

  Registry& registry_;
  const Custody& custody_;
  SocketQuery socket_query_;
  std::deque<UnknownUser> unknown_users_;  // by due_ms
  std::vector<RegistrationRef> unknown_sockets_;
  int64_t next_search_ms_ = 0;  // MonotonicCoarseMs(); no search before
  Timer users_;
  Timer search_;
  Registration found_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_INQUIRY_H_
