// The sockets on which the mapper listens, for one that is handed none.
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_MAPPER_LISTENERS_H_
#define EVERMAP_DAEMON_MAPPER_LISTENERS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "daemon/command/options.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// Binds options.addresses, or all addresses of this host, and listens. Takes up to 4 s for each when
// the holder of the port does not answer: it may be a mapper that is dying. At most kListenersMax,
// never none. kAlreadyExists: another process listens on the port. kFailedPrecondition: an address
// cannot be bound; the message is one line that says which, why, and the way out.
absl::StatusOr<std::vector<OwnedFd>> BindListeners(const Options& options);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_LISTENERS_H_
