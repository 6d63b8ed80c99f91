// Proof: whether a process that asks for the name of an orphan is the orphan's node (INV-13).
//
//   Proof proof(socket_query);
//   switch (proof.Of(orphan, {.port = port, .fd = fd})) ...
//
// An orphan has lost its connection, so nothing but the kernel can say whose it is. Whoever could
// adopt an orphan without being its node could then end it, and take its name, while the node runs.
// So neither name nor port is a proof: both are public.
//
//   owner       the user who is recorded with the registration (inquiry.h); where none is, as the
//               mapper died just after the registration, the user of the node's socket
//   its socket  the socket with the cookie that is recorded; where none is, whatever the owner has
//               listening on the orphan's port, or all that listens there if there is no owner
//
//   its socket             the newcomer is the owner's    another user's, or not known
//   is there, same port    kAdopt                         kRefuse
//   is there, other port   kRefuse                        kRefuse
//   is gone                kReplace                       kReplace
//
// A node without any socket that the same user registers again with the same port is the node, too:
// not all listen before they register, and they keep their creation (INV-5). Where cookies are not
// told (sock_diag.h), a node that was started again on the same port cannot be told from one that
// comes back; it replaces the orphan, so that it has a creation of its own.
//
// root is no exception. root may end any process, but that root asks for a name is no sign that the
// node which has it is gone; a living node on a connection keeps its name from root as well.
//
// Where nobody tells which sockets listen, the orphan's port is tried with a connection over
// loopback:
//
//   refused    kReplace: a node that is started again, on another port, has its name at once
//   accepted   kRefuse: the orphan is left alone, and is found as long as its port accepts. A node
//              that comes back asks in vain, and loses nothing by that; when it ends, its port
//              refuses. A node that is started again on the same port listens there before it asks,
//              so it is refused; but it ends then, the port refuses, and the next attempt has the
//              name.
//   neither    kRefuse, until the grace time is over (orphans.h)
//
// Whose a connection is can only be told in this network namespace. A newcomer of another one,
// which may register with -relaxed_command_check only, is judged in the same way.
//
// Thread safety: a Proof belongs to one thread.
#ifndef EVERMAP_DAEMON_NAMES_PROOF_H_
#define EVERMAP_DAEMON_NAMES_PROOF_H_

#include <cstdint>

#include "absl/types/span.h"
#include "daemon/host/sock_diag.h"
#include "registry/registration.h"

namespace evermap {

// What a newcomer may do with an orphan.
enum class Verdict {
  kAdopt,    // it is the orphan's node: the registration is its own, with the same creation
  kReplace,  // the orphan's node is gone, or is this one: the orphan ends, and the name is free
  kRefuse,   // the orphan's node lives, or may live, and the newcomer is not proved to be it
};

// Who asks for an orphan's name.
struct Newcomer {
  uint16_t port = 0;           // where it says that it listens
  uint32_t uid = kUnknownUid;  // of its connection
};

// By the sockets that listen on the orphan's port; nobody else is asked.
Verdict Judge(const Registration& orphan, const Newcomer& newcomer,
              absl::Span<const TcpListener> listeners);

class Proof {
 public:
  // `query` outlives this.
  explicit Proof(SocketQuery& query) : query_(query) {}

  // Of who asks for the orphan's name with `port` through connection `fd`. Costs 10 us for a node
  // that comes back, however many there are, and 1.2 ms with 6,000 listening sockets otherwise.
  Verdict Of(const Registration& orphan, uint16_t port, int fd);

 private:
  SocketQuery& query_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_PROOF_H_
