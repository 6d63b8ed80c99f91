// What the workers have counted, summed over them: for status and top.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_COUNTERS_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_COUNTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "registry/reader.h"
#include "registry/statistics.h"

namespace evermap {

struct Counted {
  const char* name;  // in JSON; with spaces for underscores: on a terminal
  Counter WorkerStatistics::*counter;
};
// By kind of request and result, then what happened to connections and to registrations.
inline constexpr Counted kCounted[] = {
    {"alive2_registered", &WorkerStatistics::alive2_registered},
    {"alive2_refused", &WorkerStatistics::alive2_refused},
    {"alive2_not_local", &WorkerStatistics::alive2_not_local},
    {"port2_found", &WorkerStatistics::port2_found},
    {"port2_unknown", &WorkerStatistics::port2_unknown},
    {"names", &WorkerStatistics::names},
    {"dump", &WorkerStatistics::dump},
    {"kill", &WorkerStatistics::kill},
    {"stop", &WorkerStatistics::stop},
    {"connections_accepted", &WorkerStatistics::connections_accepted},
    {"closed_malformed", &WorkerStatistics::closed_malformed},
    {"closed_timeout", &WorkerStatistics::closed_timeout},
    {"closed_evicted", &WorkerStatistics::closed_evicted},
    {"closed_source_bound", &WorkerStatistics::closed_source_bound},
    {"refused_descriptors", &WorkerStatistics::refused_descriptors},
    {"refused_registry_full", &WorkerStatistics::refused_registry_full},
    {"accept_errors", &WorkerStatistics::accept_errors},
    {"unregistered", &WorkerStatistics::unregistered},
    {"holders_found_gone", &WorkerStatistics::holders_found_gone},
    {"orphaned", &WorkerStatistics::orphaned},
    {"adopted", &WorkerStatistics::adopted},
    {"orphans_ended", &WorkerStatistics::orphans_ended},
    {"stored", &WorkerStatistics::stored},
};
// Of these the first are requests.
inline constexpr size_t kCountedRequests = 9;

using LatencyCounts = std::array<uint64_t, kLatencyBuckets>;

struct Counters {
  std::array<uint64_t, std::size(kCounted)> values = {};  // in the order of kCounted
  LatencyCounts latency = {};
  uint64_t connections_now = 0;
};

Counters ReadCounters(const RegistryView& view);

// What was counted from `before` to `now`; connections_now is that of `now`. A counter that is
// smaller than before belongs to another registry, and counts as a whole.
Counters Difference(const Counters& before, const Counters& now);

uint64_t LatencyCount(const LatencyCounts& latency);
// A latency that `share` (0 to 1) of all requests did not exceed: the end of the bucket where that
// many are reached, or the begin of the last one, which has no end. Nothing when there were none.
std::optional<uint64_t> LatencyQuantileNs(const LatencyCounts& latency, double share);

// An object with one number for each of kCounted.
nlohmann::json CountersJson(const Counters& counters);
// {"count", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "buckets": [{"below_us",
// "count"}]}, with null for what is not known; buckets up to the last that is not empty.
nlohmann::json LatencyJson(const LatencyCounts& latency);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_COUNTERS_H_
