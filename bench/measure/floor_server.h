// The floor: the least that a server of this protocol can do. It accepts, receives, sends two bytes
// ("not registered") and closes, so that reply and FIN share one segment. It knows no nodes and
// does not look at the request. A request costs only the kernel's TCP work here, so no mapper can
// be cheaper.
//
// The floor serves one connection after the other: a client that sends nothing keeps all others
// waiting.
#ifndef EVERMAP_BENCH_MEASURE_FLOOR_SERVER_H_
#define EVERMAP_BENCH_MEASURE_FLOOR_SERVER_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/load/endpoint.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

absl::StatusOr<OwnedFd> ListenForFloor(const Endpoint& endpoint);

// Serves until accept(2) fails, as it does when another thread shuts the listener down. Never
// returns OK.
absl::Status ServeFloor(int listener);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_FLOOR_SERVER_H_
