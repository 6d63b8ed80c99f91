#include "tools/epmdctl/view/counters.h"

#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace evermap {
namespace {

double Microseconds(uint64_t ns) { return static_cast<double>(ns) / 1000; }

nlohmann::json QuantileJson(const LatencyCounts& latency, double share) {
  const std::optional<uint64_t> ns = LatencyQuantileNs(latency, share);
  return ns.has_value() ? nlohmann::json(Microseconds(*ns)) : nlohmann::json();
}

uint64_t Growth(uint64_t before, uint64_t now) { return now < before ? now : now - before; }

}  // namespace

Counters ReadCounters(const RegistryView& view) {
  Counters counters;
  int64_t connections_now = 0;
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    const WorkerStatistics& statistics = view.statistics(worker);
    const auto load = [](const Counter& counter) {
      return counter.load(std::memory_order_relaxed);
    };
    for (size_t i = 0; i < counters.values.size(); ++i) {
      counters.values[i] += load(statistics.*kCounted[i].counter);
    }
    for (size_t i = 0; i < kLatencyBuckets; ++i) {
      counters.latency[i] += load(statistics.latency_buckets[i]);
    }
    connections_now += static_cast<int64_t>(load(statistics.connections_now));
  }
  // What was opened by one worker's count and closed by another's may be seen in between.
  counters.connections_now = connections_now > 0 ? static_cast<uint64_t>(connections_now) : 0;
  return counters;
}

Counters Difference(const Counters& before, const Counters& now) {
  Counters difference = now;
  for (size_t i = 0; i < now.values.size(); ++i) {
    difference.values[i] = Growth(before.values[i], now.values[i]);
  }
  for (size_t i = 0; i < kLatencyBuckets; ++i) {
    difference.latency[i] = Growth(before.latency[i], now.latency[i]);
  }
  return difference;
}

uint64_t LatencyCount(const LatencyCounts& latency) {
  return std::accumulate(latency.begin(), latency.end(), uint64_t{0});
}

std::optional<uint64_t> LatencyQuantileNs(const LatencyCounts& latency, double share) {
  const uint64_t count = LatencyCount(latency);
  if (count == 0) return std::nullopt;
  const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count)));
  uint64_t reached = 0;
  for (size_t bucket = 0; bucket < kLatencyBuckets - 1; ++bucket) {
    reached += latency[bucket];
    if (reached > 0 && reached >= wanted) return LatencyBucketEndNs(bucket);
  }
  return LatencyBucketEndNs(kLatencyBuckets - 2);
}

nlohmann::json CountersJson(const Counters& counters) {
  nlohmann::json json = nlohmann::json::object();
  for (size_t i = 0; i < counters.values.size(); ++i) json[kCounted[i].name] = counters.values[i];
  return json;
}

nlohmann::json LatencyJson(const LatencyCounts& latency) {
  nlohmann::json buckets = nlohmann::json::array();
  uint64_t left = LatencyCount(latency);
  for (size_t bucket = 0; bucket < kLatencyBuckets && left > 0; ++bucket) {
    const bool is_last = bucket == kLatencyBuckets - 1;
    buckets.push_back({
        {"below_us",
         is_last ? nlohmann::json() : nlohmann::json(Microseconds(LatencyBucketEndNs(bucket)))},
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
