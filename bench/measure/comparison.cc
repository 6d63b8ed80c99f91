#include "bench/measure/comparison.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace evermap::bench {

std::string_view MetricName(Metric metric) {
  switch (metric) {
    case Metric::kCpuUs:
      return "cpu_us";
    case Metric::kPerSecond:
      return "per_second";
    case Metric::kP50Us:
      return "p50_us";
    case Metric::kP99Us:
      return "p99_us";
    case Metric::kP999Us:
      return "p99.9_us";
    case Metric::kMaxUs:
      return "max_us";
    case Metric::kAllMs:
      return "all_ms";
  }
  return "?";
}

std::string_view MetricTitle(Metric metric) {
  switch (metric) {
    case Metric::kCpuUs:
      return "server CPU per request, us";
    case Metric::kPerSecond:
      return "requests per second";
    case Metric::kP50Us:
      return "latency p50, us";
    case Metric::kP99Us:
      return "latency p99, us";
    case Metric::kP999Us:
      return "latency p99.9, us";
    case Metric::kMaxUs:
      return "latency max, us";
    case Metric::kAllMs:
      return "all done after, ms";
  }
  return "?";
}

void Rounds::Add(const LoadResult& result) {
  const auto add = [this](Metric metric, double value) {
    values_[static_cast<size_t>(metric)].push_back(value);
  };
  const auto percentile_us = [&result](double percent) {
    return static_cast<double>(result.latencies.PercentileNs(percent)) / 1000;
  };
  if (result.server.has_value()) add(Metric::kCpuUs, result.server->CpuUsPerRequest());
  add(Metric::kPerSecond, result.PerSecond());
  add(Metric::kP50Us, percentile_us(50));
  add(Metric::kP99Us, percentile_us(99));
  add(Metric::kP999Us, percentile_us(99.9));
  add(Metric::kMaxUs, static_cast<double>(result.latencies.max_ns()) / 1000);
  add(Metric::kAllMs, absl::ToDoubleMilliseconds(result.elapsed));
}

absl::Status RunRounds(absl::Span<Contestant* const> contestants, uint32_t rounds,
                       const std::function<void(uint32_t)>& on_round) {
  std::vector<Contestant*> order(contestants.begin(), contestants.end());
  for (uint32_t round = 0; round < rounds; ++round) {
    for (Contestant* contestant : order) {
      const absl::StatusOr<LoadResult> result =
          RunLoad(*contestant->endpoint, *contestant->traffic, contestant->load);
      if (!result.ok()) {
        return absl::Status(result.status().code(),
                            absl::StrCat(contestant->label, ": ", result.status().message()));
      }
      contestant->rounds.Add(*result);
      contestant->outcomes.Merge(result->outcomes);
      contestant->latencies.Merge(result->latencies);
    }
    std::reverse(order.begin(), order.end());
    if (on_round) on_round(round + 1);
  }
  return absl::OkStatus();
}

}  // namespace evermap::bench
