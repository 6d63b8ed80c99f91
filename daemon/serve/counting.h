// What a worker counts beyond Count() (registry/counters.h): gauges and latencies.
#ifndef EVERMAP_DAEMON_SERVE_COUNTING_H_
#define EVERMAP_DAEMON_SERVE_COUNTING_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "registry/base/clock.h"
#include "registry/counters.h"
#include "registry/registry.h"

namespace evermap {

// Clears the gauges of the blocks from `first` up to `end`: those of workers that an earlier mapper
// had and this one has not.
inline void ClearGauges(Registry& registry, uint32_t first, uint32_t end) {
  for (uint32_t worker = first; worker < std::min(end, kStatisticsWorkersMax); ++worker) {
    registry.statistics(worker).connections_now.store(0, std::memory_order_relaxed);
  }
}

// Counts the latency of a request whose first bytes were read at `begin_ns` (MonotonicNs()).
inline void CountLatency(WorkerStatistics& statistics, int64_t begin_ns) {
  const auto latency_ns = static_cast<uint64_t>(MonotonicNs() - begin_ns);
  if (IsFineLatency(latency_ns)) {
    Count(statistics.fine_latency_buckets[FineLatencyBucketOf(latency_ns)]);
  } else {
    Count(statistics.latency_buckets[LatencyBucketOf(latency_ns)]);
  }
}

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_COUNTING_H_
