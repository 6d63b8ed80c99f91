// Connections that are opened, send nothing and stay. A load against this background shows whether
// idle clients slow a mapper down.
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
  // Over loopback the connections come from 127.0.1.1 and the addresses after it, 1,000 from each,
  // so that they take no ports from the load. A connection that is not established after some
  // seconds is left pending. kUnavailable when one cannot be opened at all.
  static absl::StatusOr<IdleConnections> Open(const Endpoint& endpoint, size_t count);

  size_t size() const { return connections_.size(); }
  // Number of connections that are established and that the mapper has not closed.
  size_t CountOpen() const;

 private:
  std::vector<OwnedFd> connections_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_IDLE_CONNECTIONS_H_
