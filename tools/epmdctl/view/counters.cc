#include "tools/epmdctl/view/counters.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <numeric>

namespace evermap {
namespace {

double Microseconds(uint64_t ns) { return static_cast<double>(ns) / 1000; }

nlohmann::json QuantileJson(const LatencyCounts& latency, double share) {
  const std::optional<uint64_t> ns = LatencyQuantileNs(latency, share);
  return ns.has_value() ? nlohmann::json(Microseconds(*ns)) : nlohmann::json();
}

}  // namespace

std::string CounterText(const CounterRow& row) {
  std::string text = row.field;
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

uint64_t LatencyCount(const LatencyCounts& latency) {
  return std::accumulate(latency.begin(), latency.end(), uint64_t{0});
}

std::optional<uint64_t> LatencyQuantileNs(const LatencyCounts& latency, double share) {
  assert(share >= 0 && share <= 1);
  const uint64_t count = LatencyCount(latency);
  if (count == 0) return std::nullopt;
  const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count)));
  uint64_t reached = 0;
  for (size_t bucket = 0; bucket < kShownLatencyBuckets - 1; ++bucket) {
    reached += latency[bucket];
    if (reached > 0 && reached >= wanted) return ShownLatencyEndNs(bucket);
  }
  return ShownLatencyEndNs(kShownLatencyBuckets - 2);
}

nlohmann::json CountersJson(const CounterTotals& totals) {
  nlohmann::json json = nlohmann::json::object();
  for (size_t i = 0; i < totals.values.size(); ++i) json[kCounters[i].field] = totals.values[i];
  return json;
}

nlohmann::json LatencyJson(const LatencyCounts& latency) {
  nlohmann::json buckets = nlohmann::json::array();
  uint64_t left = LatencyCount(latency);
  for (size_t bucket = 0; bucket < kShownLatencyBuckets && left > 0; ++bucket) {
    const bool is_last = bucket == kShownLatencyBuckets - 1;
    buckets.push_back({
        {"below_us",
         is_last ? nlohmann::json() : nlohmann::json(Microseconds(ShownLatencyEndNs(bucket)))},
        {"count", latency[bucket]},
    });
    left -= latency[bucket];
  }
  return {
      {"count", LatencyCount(latency)},
      {"p50_us", QuantileJson(latency, 0.5)},
      {"p90_us", QuantileJson(latency, 0.9)},
      {"p99_us", QuantileJson(latency, 0.99)},
      {"p99_9_us", QuantileJson(latency, 0.999)},
      {"max_us", QuantileJson(latency, 1)},
      {"buckets", buckets},
  };
}

}  // namespace evermap
