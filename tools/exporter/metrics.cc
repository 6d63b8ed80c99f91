#include "tools/exporter/metrics.h"

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <sstream>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "prometheus/text_serializer.h"

namespace evermap::exporter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// One of the mapper's counters and the time series that shows it. Those of one family stand
// together; the first of them has the help text.
struct CounterSeries {
  Counter WorkerStatistics::*counter;
  const char* family;
  const char* help;
  std::initializer_list<std::pair<const char*, const char*>> labels;
};

const CounterSeries kCounterSeries[] = {
    {&WorkerStatistics::alive2_registered,
     "evermap_requests_total",
     "Requests by kind and result.",
     {{"kind", "alive2"}, {"result", "registered"}}},
    {&WorkerStatistics::alive2_refused,
     "evermap_requests_total",
     "",
     {{"kind", "alive2"}, {"result", "refused"}}},
    {&WorkerStatistics::alive2_not_local,
     "evermap_requests_total",
     "",
     {{"kind", "alive2"}, {"result", "not_local"}}},
    {&WorkerStatistics::port2_found,
     "evermap_requests_total",
     "",
     {{"kind", "port2"}, {"result", "found"}}},
    {&WorkerStatistics::port2_unknown,
     "evermap_requests_total",
     "",
     {{"kind", "port2"}, {"result", "unknown"}}},
    {&WorkerStatistics::names,
     "evermap_requests_total",
     "",
     {{"kind", "names"}, {"result", "answered"}}},
    {&WorkerStatistics::dump,
     "evermap_requests_total",
     "",
     {{"kind", "dump"}, {"result", "answered"}}},
    {&WorkerStatistics::kill,
     "evermap_requests_total",
     "",
     {{"kind", "kill"}, {"result", "answered"}}},
    {&WorkerStatistics::stop,
     "evermap_requests_total",
     "",
     {{"kind", "stop"}, {"result", "answered"}}},
    {&WorkerStatistics::refused_descriptors,
     "evermap_limit_refusals_total",
     "Registrations refused because a limit was reached; they are among the refused requests too.",
     {{"limit", "descriptors"}}},
    {&WorkerStatistics::refused_registry_full,
     "evermap_limit_refusals_total",
     "",
     {{"limit", "registry"}}},
    {&WorkerStatistics::unregistered,
     "evermap_unregistered_total",
     "Registrations that ended with their node's connection.",
     {}},
    {&WorkerStatistics::holders_found_gone,
     "evermap_holders_found_gone_total",
     "Names given to a node that came back before the end of its last registration was noticed.",
     {}},
    {&WorkerStatistics::orphaned,
     "evermap_orphaned_total",
     "Registrations that lost their connection to the mapper while their node may live.",
     {}},
    {&WorkerStatistics::adopted,
     "evermap_adopted_total",
     "Orphaned registrations whose node connected again.",
     {}},
    {&WorkerStatistics::orphans_ended,
     "evermap_orphans_ended_total",
     "Orphaned registrations that were given up.",
     {}},
    {&WorkerStatistics::stored,
     "evermap_connections_stored_total",
     "Connections given into the custody that outlives the mapper.",
     {}},
    {&WorkerStatistics::connections_accepted,
     "evermap_connections_accepted_total",
     "Connections accepted.",
     {}},
    {&WorkerStatistics::closed_malformed,
     "evermap_connections_closed_total",
     "Connections closed by the mapper without an answer, by reason.",
     {{"reason", "malformed"}}},
    {&WorkerStatistics::closed_timeout,
     "evermap_connections_closed_total",
     "",
     {{"reason", "timeout"}}},
    {&WorkerStatistics::closed_evicted,
     "evermap_connections_closed_total",
     "",
     {{"reason", "evicted"}}},
    {&WorkerStatistics::closed_source_bound,
     "evermap_connections_closed_total",
     "",
     {{"reason", "source_bound"}}},
    {&WorkerStatistics::accept_errors,
     "evermap_accept_errors_total",
     "Connections that could not be accepted.",
     {}},
};

MetricFamily Family(MetricType type, std::string name, std::string help) {
  MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = type;
  return family;
}

ClientMetric Gauge(double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  return metric;
}

MetricFamily SingleGauge(std::string name, std::string help, double value) {
  MetricFamily family = Family(MetricType::Gauge, std::move(name), std::move(help));
  family.metric.push_back(Gauge(value));
  return family;
}

MetricFamily SingleCounter(std::string name, std::string help, double value) {
  MetricFamily family = Family(MetricType::Counter, std::move(name), std::move(help));
  family.metric.emplace_back().counter.value = value;
  return family;
}

double Seconds(int64_t unix_ns) { return static_cast<double>(unix_ns) / 1e9; }

void AppendCounters(const Snapshot& snapshot, std::vector<MetricFamily>& families) {
  for (const CounterSeries& series : kCounterSeries) {
    if (families.empty() || families.back().name != series.family) {
      families.push_back(Family(MetricType::Counter, series.family, series.help));
    }
    ClientMetric& metric = families.back().metric.emplace_back();
    for (const auto& [name, value] : series.labels) metric.label.push_back({name, value});
    metric.counter.value = static_cast<double>(snapshot.Sum(series.counter));
  }
}

// The sum is put together from the middles of the buckets, since the mapper keeps none: at most a
// quarter away from the true one, for requests that take 1 us or more.
MetricFamily RequestDurations(const Snapshot& snapshot) {
  MetricFamily family =
      Family(MetricType::Histogram, "evermap_request_duration_seconds",
             "Time from when a worker looked at a request until its reply was with the kernel.");
  ClientMetric::Histogram& histogram = family.metric.emplace_back().histogram;
  double begin_s = 0;
  for (size_t bucket = 0; bucket < kLatencyBuckets; ++bucket) {
    const uint64_t count = snapshot.LatencyCount(bucket);
    const bool is_last = bucket == kLatencyBuckets - 1;
    const double end_s = is_last ? std::numeric_limits<double>::infinity()
                                 : static_cast<double>(LatencyBucketEndNs(bucket)) / 1e9;
    histogram.sample_count += count;
    histogram.sample_sum +=
        static_cast<double>(count) * (is_last ? begin_s : (begin_s + end_s) / 2);
    histogram.bucket.push_back({histogram.sample_count, end_s});
    begin_s = end_s;
  }
  return family;
}

MetricFamily MapperUp(bool up) {
  return SingleGauge("evermap_mapper_up", "Whether the mapper of this registry runs: 1 or 0.",
                     up ? 1 : 0);
}

void AppendMapper(const Snapshot& snapshot, std::vector<MetricFamily>& families) {
  const MapperStatus status = snapshot.view().mapper_status();
  families.push_back(MapperUp(IsRunning(status)));
  if (status.pid == 0) return;
  MetricFamily info = Family(MetricType::Gauge, "evermap_mapper_info",
                             "The mapper that runs, or ran last, and how it serves; always 1.");
  info.metric.push_back(Gauge(1, {{"version", ValidUtf8(status.version)},
                                  {"loop", ValidUtf8(status.loop)},
                                  {"custody", ValidUtf8(status.custody)}}));
  families.push_back(std::move(info));
  families.push_back(SingleGauge("evermap_mapper_start_time_seconds",
                                 "When the mapper started, in seconds since 1970.",
                                 Seconds(status.started_unix_ns)));
  families.push_back(SingleGauge("evermap_mapper_workers", "Threads that serve.", status.workers));
  families.push_back(SingleGauge("evermap_mapper_descriptors_max",
                                 "Limit of the mapper's file descriptors.",
                                 static_cast<double>(status.descriptors_max)));
}

void AppendUpgrade(const Snapshot& snapshot, std::vector<MetricFamily>& families) {
  const UpgradeStatus upgrade = snapshot.view().upgrade_status();
  families.push_back(SingleCounter("evermap_upgrades_total",
                                   "Upgrades that were begun, whatever became of them.",
                                   static_cast<double>(upgrade.number)));
  if (upgrade.outcome == UpgradeStatus::Outcome::kNone) return;
  families.push_back(SingleGauge("evermap_last_upgrade_failed",
                                 "Whether the last upgrade failed: 1 or 0.",
                                 upgrade.outcome == UpgradeStatus::Outcome::kFailed ? 1 : 0));
  families.push_back(SingleGauge("evermap_last_upgrade_time_seconds",
                                 "When the last upgrade came to its state, in seconds since 1970.",
                                 Seconds(upgrade.unix_ns)));
}

void AppendRegistry(const Snapshot& snapshot, std::vector<MetricFamily>& families) {
  MetricFamily names =
      Family(MetricType::Gauge, "evermap_names",
             "Names in the registry: of nodes that are registered (live), of nodes whose "
             "connection to the mapper was lost (orphaned), and of former nodes (remembered).");
  names.metric.push_back(Gauge(snapshot.live_count(), {{"state", "live"}}));
  names.metric.push_back(Gauge(snapshot.orphaned_count(), {{"state", "orphaned"}}));
  names.metric.push_back(Gauge(snapshot.remembered_count(), {{"state", "remembered"}}));
  families.push_back(std::move(names));
  families.push_back(SingleGauge("evermap_registry_capacity",
                                 "Names that the registry has room for.",
                                 snapshot.view().capacity()));
  families.push_back(SingleCounter("evermap_registry_changes_total",
                                   "Changes of the registry, as nodes come and go.",
                                   static_cast<double>(snapshot.view().generation())));
  // What was opened by one worker's count and closed by another's may be seen in between.
  const auto open = static_cast<int64_t>(snapshot.Sum(&WorkerStatistics::connections_now));
  families.push_back(SingleGauge("evermap_connections", "Connections open now, of nodes too.",
                                 open > 0 ? static_cast<double>(open) : 0));
}

void AppendNodes(const Snapshot& snapshot, std::vector<MetricFamily>& families) {
  if (snapshot.nodes().empty()) return;
  MetricFamily info = Family(MetricType::Gauge, "evermap_node_info",
                             "A registered node, and what is known of it; always 1.");
  MetricFamily since = Family(MetricType::Gauge, "evermap_node_registered_time_seconds",
                              "When the node registered, in seconds since 1970.");
  for (const Snapshot::Node& node : snapshot.nodes()) {
    info.metric.push_back(Gauge(1, {{"name", node.name},
                                    {"port", absl::StrCat(node.port)},
                                    {"creation", absl::StrCat(node.creation)},
                                    {"state", StateText(node)},
                                    {"type", TypeText(node)},
                                    {"uid", UidText(node)}}));
    since.metric.push_back(Gauge(Seconds(node.since_unix_ns), {{"name", node.name}}));
  }
  families.push_back(std::move(info));
  families.push_back(std::move(since));
}

}  // namespace

std::vector<MetricFamily> Metrics(const Snapshot& snapshot) {
  std::vector<MetricFamily> families;
  MetricFamily build = Family(MetricType::Gauge, "evermap_exporter_build_info",
                              "Version of this exporter; always 1.");
  build.metric.push_back(Gauge(1, {{"version", EVERMAP_VERSION}}));
  families.push_back(std::move(build));
  families.push_back(SingleGauge("evermap_registry_readable",
                                 "Whether the registry is there and can be read: 1 or 0.",
                                 snapshot.readable() ? 1 : 0));
  if (!snapshot.readable()) {
    // So that an alert on it need not know of the difference.
    families.push_back(MapperUp(false));
    return families;
  }
  AppendMapper(snapshot, families);
  AppendUpgrade(snapshot, families);
  AppendRegistry(snapshot, families);
  AppendCounters(snapshot, families);
  families.push_back(RequestDurations(snapshot));
  AppendNodes(snapshot, families);
  return families;
}

std::string MetricsText(const Snapshot& snapshot) {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, Metrics(snapshot));
  return text.str();
}

}  // namespace evermap::exporter
