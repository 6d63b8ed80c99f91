// Counters that workers keep in the segment, so that tools read them without asking the daemon.
//
// One block per worker, on cache lines of its own: a worker writes only its own block, with relaxed
// atomics; during an upgrade the old and the new process may add to the same block. Counters only
// ever grow, and survive the daemon.
#ifndef EVERMAP_REGISTRY_STATISTICS_H_
#define EVERMAP_REGISTRY_STATISTICS_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace evermap {

inline constexpr uint32_t kStatisticsWorkersMax = 256;

// Latencies are counted in buckets, two to each doubling. In units of 500 ns the first ones are
//   0: below 1   1: 1   2: 2   3: 3   4: 4..5   5: 6..7   6: 8..11   7: 12..15   8: 16..23   ...
// so that their ends are 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16 us and so on, each at most 1.5 times
// (from the fourth on) the one before. The last, from 393 ms on, has no end.
inline constexpr size_t kLatencyBuckets = 40;
inline constexpr uint64_t kLatencyUnitNs = 500;

constexpr size_t LatencyBucketOf(uint64_t latency_ns) {
  const uint64_t units = latency_ns / kLatencyUnitNs;
  if (units < 2) return static_cast<size_t>(units);
  const size_t doublings = static_cast<size_t>(std::bit_width(units)) - 1;
  const size_t bucket = 2 * doublings + ((units >> (doublings - 1)) & 1);
  return bucket < kLatencyBuckets ? bucket : kLatencyBuckets - 1;
}
// The first latency that is too long for `bucket`. REQUIRES: bucket < kLatencyBuckets - 1.
constexpr uint64_t LatencyBucketEndNs(size_t bucket) {
  const size_t next = bucket + 1;
  if (next < 2) return next * kLatencyUnitNs;
  return ((2 + (next & 1)) << (next / 2 - 1)) * kLatencyUnitNs;
}
static_assert(LatencyBucketEndNs(0) == 500 && LatencyBucketEndNs(1) == 1000);
static_assert(LatencyBucketEndNs(4) == 3000 && LatencyBucketEndNs(5) == 4000);
static_assert(LatencyBucketEndNs(kLatencyBuckets - 2) == 393'216'000);

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
  Counter stored;           // connections given into custody, to another keeper anew
  // Requests that were understood, of all kinds, by the time that the worker took for them: from
  // when it looked at the first bytes that one turn of its event loop brought, which may be those
  // of another request, until the reply to this one was handed to the kernel (a long one: its first
  // part) or its connection was closed without one. What a request waits in the kernel before its
  // turn, and what the network takes, is not in it.
  Counter latency_buckets[kLatencyBuckets];  // LatencyBucketOf()
  Counter reserved[64];
};
static_assert(sizeof(WorkerStatistics) == 1024);
static_assert(offsetof(WorkerStatistics, connections_now) == 152);
static_assert(offsetof(WorkerStatistics, latency_buckets) == 192);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_STATISTICS_H_
