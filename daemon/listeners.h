// The sockets that the mapper listens on.
#ifndef EVERMAP_DAEMON_LISTENERS_H_
#define EVERMAP_DAEMON_LISTENERS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "daemon/options.h"
#include "registry/segment.h"

namespace evermap {

// Binds options.addresses, or all of this host. kAlreadyExists: somebody listens on the port
// already. kFailedPrecondition: an address cannot be bound, the message says which and why.
absl::StatusOr<std::vector<OwnedFd>> BindListeners(const Options& options);

// The sockets that systemd passes (sd_listen_fds(3)). kFailedPrecondition: there are none, or one
// is no listening TCP socket.
absl::StatusOr<std::vector<OwnedFd>> ListenersFromSystemd();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LISTENERS_H_
