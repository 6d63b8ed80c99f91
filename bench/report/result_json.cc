#include "bench/report/result_json.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/load/request_kind.h"
#include "registry/base/file_text.h"

namespace evermap::bench {
namespace {

using Json = nlohmann::ordered_json;

std::string CpuModel() {
  for (const absl::string_view line : absl::StrSplit(FileText("/proc/cpuinfo"), '\n')) {
    const size_t colon = line.find(": ");
    if (absl::StartsWith(line, "model name") && colon != absl::string_view::npos) {
      return std::string(line.substr(colon + 2));
    }
  }
  return "unknown";
}

Json Percentiles(const LatencyHistogram& latencies) {
  return {
      {"p50", Us(latencies.PercentileNs(50))},       {"p90", Us(latencies.PercentileNs(90))},
      {"p99", Us(latencies.PercentileNs(99))},       {"p99.9", Us(latencies.PercentileNs(99.9))},
      {"p99.99", Us(latencies.PercentileNs(99.99))}, {"max", Us(latencies.max_ns())}};
}

// [[latency up to which, how many], ...]
Json Distribution(const LatencyHistogram& latencies) {
  Json pairs = Json::array();
  for (const LatencyHistogram::Bucket& bucket : latencies.NonEmptyBuckets()) {
    pairs.push_back({Us(bucket.largest_ns), bucket.count});
  }
  return pairs;
}

Json ToJson(const Timeline& timeline) {
  Json correct = Json::array();
  Json wrong = Json::array();
  Json latency_max_us = Json::array();
  for (const Timeline::Interval& interval : timeline.intervals()) {
    correct.push_back(interval.correct);
    wrong.push_back(interval.wrong);
    latency_max_us.push_back(Us(interval.latency_max_ns));
  }
  return {{"interval_ms", static_cast<double>(timeline.interval_ns()) / 1e6},
          {"correct", correct},
          {"wrong", wrong},
          {"latency_max_us", latency_max_us}};
}

Json ToJson(const OutcomeCounts& outcomes) {
  Json counts = Json::object();
  for (size_t i = 0; i < kOutcomes; ++i) {
    const auto outcome = static_cast<Outcome>(i);
    if (outcomes.of(outcome) > 0) counts[std::string(OutcomeName(outcome))] = outcomes.of(outcome);
  }
  return counts;
}

Json ToJson(const ServerCost& cost) {
  return {{"cpu_us_per_request", cost.CpuUsPerRequest()},
          {"voluntary_switches_per_request", cost.PerRequest(cost.voluntary_switches)},
          {"involuntary_switches_per_request", cost.PerRequest(cost.involuntary_switches)},
          {"memory_kib", static_cast<double>(cost.at_end.memory_bytes) / 1024},
          {"descriptors", cost.at_end.descriptors},
          {"processes", cost.at_end.processes},
          {"threads", cost.at_end.threads}};
}

}  // namespace

Json NewDocument(const std::string& command) {
  utsname system{};
  uname(&system);
  return {{"tool", "epmd-bench"},
          {"version", EVERMAP_VERSION},
          {"date", absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone())},
          {"machine",
           {{"cpu", CpuModel()},
            {"cores", sysconf(_SC_NPROCESSORS_ONLN)},
            {"kernel", std::string(system.sysname) + " " + system.release},
            {"architecture", system.machine}}},
          {"command", command}};
}

Json ToJson(const LoadResult& result, const LoadOptions& options) {
  Json kinds = Json::object();
  for (size_t i = 0; i < kRequestKinds; ++i) {
    if (result.kinds[i] > 0) {
      kinds[std::string(RequestKindName(static_cast<RequestKind>(i)))] = result.kinds[i];
    }
  }
  Json json = {
      {"connections", options.connections},
      {"threads", options.threads},
      {"rate_per_s", options.rate_per_s},
      {"warm_up_s", absl::ToDoubleSeconds(options.warm_up)},
      {"elapsed_s", absl::ToDoubleSeconds(result.elapsed)},
      {"requests", result.outcomes.total()},
      {"wrong", result.outcomes.wrong()},
      {"outcomes", ToJson(result.outcomes)},
      {"kinds", kinds},
      {"per_second", result.PerSecond()},
      {"latency_us", Percentiles(result.latencies)},
      {"longest_gap_ms", static_cast<double>(result.gap.length_ns()) / 1e6},
      {"longest_gap_at_s", static_cast<double>(result.gap.begin_ns - result.begin_ns) / 1e9}};
  if (options.rate_per_s > 0) json["lateness_us"] = Percentiles(result.lateness);
  if (result.server.has_value()) json["server"] = ToJson(*result.server);
  json["distribution_us"] = Distribution(result.latencies);
  json["timeline"] = ToJson(result.timeline);
  return json;
}

Json ToJson(const RestartResult& result, const LoadOptions& options) {
  Json json = ToJson(result.load, options);
  json["restart"] = {{"exit_code", result.exit_code},
                     {"begin_s", absl::ToDoubleSeconds(result.act_begin)},
                     {"end_s", absl::ToDoubleSeconds(result.act_end)},
                     {"connections_lost", result.nodes.connections_lost},
                     {"registered_again", result.nodes.registered_again},
                     {"creations_changed", result.nodes.creations_changed},
                     {"registrations_lost", result.registrations_lost}};
  return json;
}

Json ToJson(const Spread& spread) {
  return {{"median", spread.median}, {"low", spread.low}, {"high", spread.high}};
}

Json ToJson(const Contestant& first, const Contestant& second) {
  Json metrics = Json::array();
  for (size_t i = 0; i < kMetrics; ++i) {
    const auto metric = static_cast<Metric>(i);
    const std::vector<double>& a = first.rounds.of(metric);
    const std::vector<double>& b = second.rounds.of(metric);
    if (a.empty() && b.empty()) continue;
    metrics.push_back({{"name", MetricName(metric)},
                       {"title", MetricTitle(metric)},
                       {"first", ToJson(SpreadOf(a))},
                       {"second", ToJson(SpreadOf(b))},
                       {"ratio", ToJson(RatioOf(b, a))},
                       {"first_samples", a},
                       {"second_samples", b}});
  }
  Json json = {{"first", first.label},
               {"second", second.label},
               {"rounds", first.rounds.of(Metric::kP50Us).size()},
               {"wrong", first.outcomes.wrong() + second.outcomes.wrong()},
               {"metrics", metrics}};
  for (const auto& [key, side] : {std::pair("first_load", &first), {"second_load", &second}}) {
    json[key] = {{"requests", side->outcomes.total()},
                 {"outcomes", ToJson(side->outcomes)},
                 {"latency_us", Percentiles(side->latencies)},
                 {"distribution_us", Distribution(side->latencies)}};
  }
  return json;
}

Json ToJson(const std::vector<MeshCost>& first, const std::vector<MeshCost>& second) {
  Json metrics = Json::array();
  for (const MeshMetric& metric : kMeshMetrics) {
    const std::vector<double> a = ValuesOf(metric, first);
    const std::vector<double> b = ValuesOf(metric, second);
    metrics.push_back({{"name", metric.name},
                       {"title", metric.title},
                       {"first", ToJson(SpreadOf(a))},
                       {"second", ToJson(SpreadOf(b))},
                       {"ratio", ToJson(RatioOf(b, a))},
                       {"first_samples", a},
                       {"second_samples", b}});
  }
  return {{"first", "stock"}, {"second", "ours"}, {"rounds", first.size()}, {"metrics", metrics}};
}

Json ToJson(const SuiteResult& result) {
  Json budgets = Json::array();
  for (const Budget& budget : result.budgets) {
    budgets.push_back({{"id", budget.id},
                       {"what", budget.what},
                       {"unit", budget.unit},
                       {"limit", budget.limit},
                       {"is_minimum", budget.is_minimum},
                       {"measured", ToJson(budget.measured())},
                       {"samples", budget.samples},
                       {"note", budget.note},
                       {"is_met", budget.IsMet()}});
  }
  Json costs = Json::array();
  for (const Cost& cost : result.costs) {
    costs.push_back({{"server", cost.server},
                     {"request", cost.request},
                     {"nodes", cost.nodes},
                     {"connections", cost.connections},
                     {"cpu_us", ToJson(SpreadOf(cost.cpu_us))},
                     {"p50_us", ToJson(SpreadOf(cost.p50_us))},
                     {"cpu_us_samples", cost.cpu_us},
                     {"p50_us_samples", cost.p50_us}});
  }
  return {{"requests", result.requests},
          {"wrong", result.wrong},
          {"budgets", budgets},
          {"costs", costs}};
}

std::string Dump(const Json& document, int indent) {
  return document.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace evermap::bench
