// Inquiry: what is found out about a node after its registration, and written into the registry
// (Registry::Amend()).
//
//   - Its user: who the kernel says has made its connection. Only the same user may have the
//     registration if it becomes an orphan (proof.h), so it is asked for at once.
//   - Its distribution socket, the one on which it listens for other nodes: as long as that socket
//     is there the node lives (orphans.h). A node may listen on one address and register through
//     another, so what is not found at once is looked for among all sockets of the host that
//     listen. A socket of another user is not the node's, though it has the port.
//
// Both cost 4 us. They are asked for when the main thread takes a new registration, some
// milliseconds after its reply: by then a client that registers in a loop is gone, no request
// waits, and a mapper that dies before knows as little of the connection.
//
// Thread safety: belongs to the main thread.
// Bounds: one node for each connection in custody waits for its user; nodes whose distribution
// socket is unknown wait for one search, at most kSearchIntervalMs.
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
  // How many users are asked for before the main thread looks what else is to be done.
  static constexpr int kUsersPerTurn = 64;
  // The least time between two searches among all sockets of the host.
  static constexpr int64_t kSearchIntervalMs = 1000;

  // All of it outlives this.
  Inquiry(Registry& registry, const Custody& custody, Timers& timers);

  // Finds out about a node that has just registered.
  void Add(const Registration& node);
  // The same for one of the two, a moment later: for nodes of which an earlier mapper has not found
  // it out.
  void AskForUser(RegistrationRef node);
  void SearchDistributionSocket(RegistrationRef node);

 private:
  void FindUsers();
  void FindDistributionSockets();

  Registry& registry_;
  const Custody& custody_;
  // /proc would cost more with each socket of the host.
  SocketQuery socket_query_{SocketQuery::Fallback::kNone};
  std::deque<RegistrationRef> unknown_users_;
  std::vector<RegistrationRef> unknown_sockets_;
  int64_t next_search_ms_ = 0;  // MonotonicCoarseMs(); no search before
  Timer users_;
  Timer search_;
  Registration found_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_INQUIRY_H_
