// Counters that workers keep in the segment, so that tools read them without asking the daemon.
//
// One block per worker, on cache lines of its own: a worker writes only its own block, with relaxed
// atomics; during an upgrade the old and the new process may add to the same block. Counters only
// ever grow, and survive the daemon.
#ifndef EVERMAP_REGISTRY_STATISTICS_H_
#define EVERMAP_REGISTRY_STATISTICS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

// The layout version of the segment (layout.h) is chosen here, as the size of the statistics
// depends on it; only tests build another one than the newest.
#ifndef EVERMAP_LAYOUT_VERSION
#define EVERMAP_LAYOUT_VERSION 2
#endif

namespace evermap {

inline constexpr uint32_t kStatisticsWorkersMax = 256;
inline constexpr size_t kLatencyBuckets = 40;

using Counter = std::atomic<uint64_t>;

struct alignas(64) WorkerStatistics {
  Counter connections_accepted;
  Counter alive2_registered;
  Counter alive2_refused;
  Counter alive2_not_local;
  Counter port2_found;
  Counter port2_unknown;
  Counter names;
  Counter dump;
  Counter kill;
  Counter stop;
  Counter unregistered;
  Counter holders_found_gone;   // names freed because the holder's connection was found closed
  Counter closed_malformed;     // garbage, unknown request, not allowed
  Counter closed_timeout;       // no complete request, or a reply not taken, within -packet_timeout
  Counter closed_evicted;       // made room for newer connections
  Counter closed_source_bound;  // too many open requests from one address
  Counter refused_descriptors;  // ALIVE2 refused: file descriptors
  Counter refused_registry_full;  // ALIVE2 refused: registry
  Counter accept_errors;
  Counter connections_now;  // a gauge: added to and subtracted from
  Counter orphaned;         // registrations that lost their connection to the mapper
  Counter adopted;          // orphaned ones that got a new connection
  Counter orphans_ended;    // orphaned ones that were given up
  Counter stored;           // connections given into custody
  // Reserved for a histogram of latencies.
  Counter latency_buckets[kLatencyBuckets];
#if EVERMAP_LAYOUT_VERSION > 1
  Counter reserved[64];
#endif
};
#if EVERMAP_LAYOUT_VERSION > 1
static_assert(sizeof(WorkerStatistics) == 1024);
#else
static_assert(sizeof(WorkerStatistics) == 512);
#endif
static_assert(offsetof(WorkerStatistics, connections_now) == 152);
static_assert(offsetof(WorkerStatistics, latency_buckets) == 192);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_STATISTICS_H_
