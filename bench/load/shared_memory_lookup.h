// The cost of a lookup in shared memory: this process maps the registry and asks no mapper.
#ifndef EVERMAP_BENCH_LOAD_SHARED_MEMORY_LOOKUP_H_
#define EVERMAP_BENCH_LOAD_SHARED_MEMORY_LOOKUP_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/latency_histogram.h"
#include "bench/load/node_set.h"

namespace evermap::bench {

struct SharedMemoryLookups {
  // Latency of one lookup, as the mean of a batch of 32, since reading the clock takes about as
  // long as a lookup.
  LatencyHistogram latencies;
  uint64_t lookups = 0;
  uint64_t wrong = 0;
  double per_second = 0;
};

// Looks nodes up at random in `threads` threads for `duration`. kNotFound when there is no registry
// at `path`.
absl::StatusOr<SharedMemoryLookups> LookUpInSharedMemory(const std::string& path,
                                                         const NodeSet& nodes, uint32_t threads,
                                                         absl::Duration duration);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_SHARED_MEMORY_LOOKUP_H_
