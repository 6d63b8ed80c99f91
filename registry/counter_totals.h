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

// Number of requests in each bucket of latency, as LatencyBucketOf() numbers them.
using LatencyCounts = std::array<uint64_t, kLatencyBuckets>;

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
CounterTotals ReadCounterTotals(const RegistryView& view);

// What was counted from `before` to `now`; connections_now is that of `now`. A counter that is
// smaller than before belongs to another registry, and counts as a whole.
CounterTotals Growth(const CounterTotals& before, const CounterTotals& now);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_COUNTER_TOTALS_H_
