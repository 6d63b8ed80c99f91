// The counters of a registry, summed over its workers: for status, top and the exporter.
//
//   const CounterTotals before = ReadCounterTotals(view);
//   ...
//   const CounterTotals grown = Growth(before, ReadCounterTotals(view));
//   Show(grown.Of(&WorkerStatistics::port2_found));
#ifndef EVERMAP_REGISTRY_COUNTER_TOTALS_H_
#define EVERMAP_REGISTRY_COUNTER_TOTALS_H_

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "registry/counters.h"
#include "registry/reader.h"

namespace evermap {

// The buckets of latency in the order of their ends: those below the fine ones, these, and those above.
inline constexpr size_t kLatencyBucketsBelowFine =
    LatencyBucketOf(kFineLatencyBeginUnits * kLatencyUnitNs);
inline constexpr size_t kLatencyBucketAboveFine =
    LatencyBucketOf(kFineLatencyEndUnits * kLatencyUnitNs);
inline constexpr size_t kShownLatencyBuckets =
    kLatencyBucketsBelowFine + kFineLatencyBuckets + kLatencyBuckets - kLatencyBucketAboveFine;
// Number of requests in each of them.
using LatencyCounts = std::array<uint64_t, kShownLatencyBuckets>;

// The first latency in nanoseconds that is too long for shown bucket `bucket`.
// REQUIRES: bucket < kShownLatencyBuckets - 1, since the last bucket has no end.
constexpr uint64_t ShownLatencyEndNs(size_t bucket) {
  if (bucket < kLatencyBucketsBelowFine) return LatencyBucketEndNs(bucket);
  const size_t fine = bucket - kLatencyBucketsBelowFine;
  if (fine < kFineLatencyBuckets) return FineLatencyBucketEndNs(fine);
  return LatencyBucketEndNs(fine - kFineLatencyBuckets + kLatencyBucketAboveFine);
}
static_assert(ShownLatencyEndNs(kLatencyBucketsBelowFine - 1) == 4'000);
static_assert(ShownLatencyEndNs(kLatencyBucketsBelowFine + kFineLatencyBuckets) > 512'000);

struct CounterTotals {
  std::array<uint64_t, std::size(kCounters)> values = {};  // in the order of kCounters
  LatencyCounts latency = {};
  uint64_t connections_now = 0;

  // REQUIRES: `counter` has a row in kCounters.
  uint64_t Of(Counter WorkerStatistics::*counter) const {
    const size_t index = CounterIndex(counter);
    assert(index < values.size());
    return values[index];
  }
};

// Each counter is read by itself while the workers go on counting, so two of them may be of
// different moments.
// `workers`: of so many, from the first on.
CounterTotals ReadCounterTotals(const RegistryView& view, uint32_t workers = kStatisticsWorkersMax);

// What was counted from `before` to `now`; connections_now is that of `now`. A counter that is
// smaller than before belongs to another registry, and counts as a whole.
CounterTotals Growth(const CounterTotals& before, const CounterTotals& now);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_COUNTER_TOTALS_H_
