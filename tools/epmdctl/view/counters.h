// Counters and latencies as people and programs read them: for status and top. Pure.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_COUNTERS_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_COUNTERS_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "registry/counter_totals.h"
#include "registry/counters.h"

namespace evermap {

// The name of a counter on a terminal, like "alive2 registered".
std::string CounterText(const CounterRow& row);

uint64_t LatencyCount(const LatencyCounts& latency);
// A latency in nanoseconds that `share` of all requests did not exceed: the end of the bucket in
// which that many are reached. The last bucket has no end, so its begin stands for it. Nothing when
// there were no requests. REQUIRES: 0 <= share <= 1.
std::optional<uint64_t> LatencyQuantileNs(const LatencyCounts& latency, double share);

// An object with one number for each row of kCounters.
nlohmann::json CountersJson(const CounterTotals& totals);
// {"count", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "buckets": [{"below_us",
// "count"}]}, with null for what is not known; buckets up to the last that is not empty.
nlohmann::json LatencyJson(const LatencyCounts& latency);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_COUNTERS_H_
