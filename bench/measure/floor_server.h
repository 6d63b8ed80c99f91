// The least that a server of this protocol can do: accept, receive, send two bytes ("not
// registered") and close, so that reply and FIN share one segment. It knows no nodes and looks at
// nothing. What a request costs here is the kernel's TCP work: no mapper can get below it.
//
// It serves one connection after the other, so that one who connects and says nothing keeps all
// others waiting.
#ifndef EVERMAP_BENCH_MEASURE_FLOOR_SERVER_H_
#define EVERMAP_BENCH_MEASURE_FLOOR_SERVER_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/load/endpoint.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

absl::StatusOr<OwnedFd> ListenForFloor(const Endpoint& endpoint);

// Serves until accept(2) fails, as it does when the listener is shut down by another thread.
absl::Status ServeFloor(int listener);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_FLOOR_SERVER_H_
