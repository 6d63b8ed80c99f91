// Connections that are opened, say nothing and stay: the background against which a load shows
// whether a mapper can be kept busy by those who do not even ask.
#ifndef EVERMAP_BENCH_LOAD_IDLE_CONNECTIONS_H_
#define EVERMAP_BENCH_LOAD_IDLE_CONNECTIONS_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/load/endpoint.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

class IdleConnections {
 public:
  // Over loopback they come from 127.0.1.1 and up, 1,000 from each, not from where the load comes
  // from. Those that are not there after some seconds are left pending. kUnavailable when one
  // cannot be opened at all.
  static absl::StatusOr<IdleConnections> Open(const Endpoint& endpoint, size_t count);

  size_t size() const { return connections_.size(); }
  // Those that are open now: connected, and not closed by the mapper.
  size_t CountOpen() const;

 private:
  std::vector<OwnedFd> connections_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_IDLE_CONNECTIONS_H_
