#include "registry/counter_totals.h"

#include <algorithm>
#include <atomic>

namespace evermap {
namespace {

uint64_t ValueOf(const Counter& counter) { return counter.load(std::memory_order_relaxed); }

// Whether a counter lies within the first `size` bytes of a worker's block. In a file of a former
// layout the block is shorter: a counter after its end would be one of the next worker.
bool IsWithin(const WorkerStatistics& block, const Counter& counter, size_t size) {
  const auto offset = reinterpret_cast<uintptr_t>(&counter) - reinterpret_cast<uintptr_t>(&block);
  return offset + sizeof(Counter) <= size;
}

// The shown bucket in which the counts of bucket `bucket` belong. Of one in whose place there are fine
// buckets by now, the last of these: what it counted was below its end.
constexpr size_t ShownBucketOf(size_t bucket) {
  if (bucket < kLatencyBucketsBelowFine) return bucket;
  if (bucket < kLatencyBucketAboveFine) {
    return kLatencyBucketsBelowFine + FineLatencyBucketOf(LatencyBucketEndNs(bucket) - 1);
  }
  return bucket - kLatencyBucketAboveFine + kLatencyBucketsBelowFine + kFineLatencyBuckets;
}

uint64_t GrowthOf(uint64_t before, uint64_t now) { return now < before ? now : now - before; }

}  // namespace

CounterTotals ReadCounterTotals(const RegistryView& view, uint32_t workers) {
  CounterTotals totals;
  const size_t size = view.statistics_size();
  int64_t connections_now = 0;
  for (uint32_t worker = 0; worker < workers; ++worker) {
    const WorkerStatistics& statistics = view.statistics(worker);
    for (size_t i = 0; i < totals.values.size(); ++i) {
      const Counter& counter = statistics.*kCounters[i].counter;
      if (IsWithin(statistics, counter, size)) totals.values[i] += ValueOf(counter);
    }
    for (size_t i = 0; i < kLatencyBuckets; ++i) {
      totals.latency[ShownBucketOf(i)] += ValueOf(statistics.latency_buckets[i]);
    }
    for (size_t i = 0; i < kFineLatencyBuckets; ++i) {
      const Counter& counter = statistics.fine_latency_buckets[i];
      if (!IsWithin(statistics, counter, size)) break;
      totals.latency[kLatencyBucketsBelowFine + i] += ValueOf(counter);
    }
    connections_now += static_cast<int64_t>(ValueOf(statistics.connections_now));
  }
  // One worker may count a connection that another one counts off again when it closes. A reader in
  // between can see only the second, so the sum may be below zero for a moment.
  totals.connections_now = static_cast<uint64_t>(std::max<int64_t>(connections_now, 0));
  return totals;
}

CounterTotals Growth(const CounterTotals& before, const CounterTotals& now) {
  CounterTotals growth = now;
  for (size_t i = 0; i < now.values.size(); ++i) {
    growth.values[i] = GrowthOf(before.values[i], now.values[i]);
  }
  for (size_t i = 0; i < kShownLatencyBuckets; ++i) {
    growth.latency[i] = GrowthOf(before.latency[i], now.latency[i]);
  }
  return growth;
}

}  // namespace evermap
