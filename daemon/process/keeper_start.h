// How a mapper starts a keeper for itself, when it has lost its own.
#ifndef EVERMAP_DAEMON_PROCESS_KEEPER_START_H_
#define EVERMAP_DAEMON_PROCESS_KEEPER_START_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// Starts a keeper that follows this process and holds `listeners`; it holds no connection yet.
// `arguments` are those of this process. Returns the link to it, or why there is none; the keeper
// is a child of this process.
absl::StatusOr<OwnedFd> StartKeeper(const std::vector<std::string>& arguments,
                                    absl::Span<const int> listeners);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_KEEPER_START_H_
