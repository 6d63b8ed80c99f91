// The beginning of the Erlang distribution handshake, as far as it goes without a cookie: enough to
// see that an Erlang node answers at a port, and under which name.
//
//   -> send_name   'N' flags (8 bytes) creation (4) size (2) name      version 6, OTP 23 and later
//                  'n' 5 (2 bytes) flags (4) name                      version 5
//   <- status      's' text: ok, ok_simultaneous, nok, not_allowed, alive
//   <- challenge   'N' flags (8) challenge (4) creation (4) size (2) name
//                  'n' version (2) flags (4) challenge (4) name        only after ok
//
// Each message has its size in 2 bytes before it; numbers are big-endian. ("Distribution Protocol"
// in the ERTS User's Guide.) A node that gets no reply to its challenge forgets the attempt.
//
// The first two functions are pure.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_HANDSHAKE_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_HANDSHAKE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "daemon/wire/tcp.h"

namespace evermap {

// A whole send_name message, with its size. `name`: NAME@HOST, of at most 1,000 bytes.
std::string EncodeSendName(std::string_view name, uint16_t highest_version);
// The name in a challenge (without its size), or nothing when it is none.
std::string NameInChallenge(std::string_view message);

struct NodeAnswer {
  std::string status;     // as sent; may be any text
  std::string node_name;  // NAME@HOST; empty when the node did not go on to its challenge
  bool is_tls = false;    // it answered with TLS, which is not spoken here; all else is empty
};

// Sends a send_name as `own_name` and reads the answer. kDataLoss: the connection was closed
// without one; kInvalidArgument: what answers is no Erlang node. Others as in tcp.h.
absl::StatusOr<NodeAnswer> GreetNode(const TcpConnection& connection, std::string_view own_name,
                                     uint16_t highest_version, const Waiter& waiter);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_HANDSHAKE_H_
