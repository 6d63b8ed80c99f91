// The sockets that the mapper listens on.
#ifndef EVERMAP_DAEMON_MAPPER_LISTENERS_H_
#define EVERMAP_DAEMON_MAPPER_LISTENERS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "daemon/command/options.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// Binds options.addresses, or all of this host. kAlreadyExists: somebody listens on the port
// already. kFailedPrecondition: an address cannot be bound, the message says which and why.
absl::StatusOr<std::vector<OwnedFd>> BindListeners(const Options& options);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_LISTENERS_H_
