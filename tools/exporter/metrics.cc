#include "tools/exporter/metrics.h"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "prometheus/text_serializer.h"
#include "registry/base/text.h"
#include "registry/counters.h"

namespace evermap::exporter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

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
  for (size_t family = 0; family < std::size(kCounterFamilies); ++family) {
    const CounterFamilyText& text = kCounterFamilies[family];
    families.push_back(Family(MetricType::Counter, text.metric, text.help));
    for (size_t i = 0; i < std::size(kCounters); ++i) {
      if (static_cast<size_t>(kCounters[i].family) != family) continue;
      ClientMetric& metric = families.back().metric.emplace_back();
      for (const CounterLabel& label : kCounters[i].labels) {
        if (label.name != nullptr) metric.label.push_back({label.name, label.value});
      }
      metric.counter.value = static_cast<double>(snapshot.totals().values[i]);
    }
  }
}

// The mapper keeps no sum of the latencies, so it is estimated from the middles of the buckets. For
// requests that take 1 us or more the estimate is at most a quarter away from the true sum.
MetricFamily RequestDurations(const Snapshot& snapshot) {
  MetricFamily family =
      Family(MetricType::Histogram, "evermap_request_duration_seconds",
             "Time from when a worker looked at a request until its reply was with the kernel.");
  ClientMetric::Histogram& histogram = family.metric.emplace_back().histogram;
  double begin_s = 0;
  for (size_t bucket = 0; bucket < kShownLatencyBuckets; ++bucket) {
    const uint64_t count = snapshot.totals().latency[bucket];
    const bool is_last = bucket == kShownLatencyBuckets - 1;
    const double end_s = is_last ? std::numeric_limits<double>::infinity()
                                 : static_cast<double>(ShownLatencyEndNs(bucket)) / 1e9;
    histogram.sample_count += count;
    histogram.sample_sum +=
        static_cast<double>(count) * (is_last ? begin_s : (begin_s + end_s) / 2);
    // Each series costs its reader something, so of the fine buckets four are shown as one.
    const bool is_within = bucket >= kLatencyBucketsBelowFine &&
                           bucket < kLatencyBucketsBelowFine + kFineLatencyBuckets &&
                           (bucket - kLatencyBucketsBelowFine) % 4 != 3;
    if (!is_within) histogram.bucket.push_back({histogram.sample_count, end_s});
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
  families.push_back(SingleGauge("evermap_connections", "Connections open now, of nodes too.",
                                 static_cast<double>(snapshot.totals().connections_now)));
}

void AppendExpected(const Snapshot& snapshot, std::vector<MetricFamily>& families) {
  if (snapshot.expected().empty()) return;
  MetricFamily registered =
      Family(MetricType::Gauge, "evermap_expected_node_registered",
             "Whether a node that the mapper was told to expect is registered: 1 or 0.");
  MetricFamily since = Family(MetricType::Gauge, "evermap_expected_node_missing_since_seconds",
                              "Since when an expected node is missing, in seconds since 1970.");
  for (const ExpectedNode& node : snapshot.expected()) {
    const std::string name = Printable(node.name);
    registered.metric.push_back(Gauge(node.is_missing ? 0 : 1, {{"name", name}}));
    if (node.is_missing) {
      since.metric.push_back(Gauge(Seconds(node.missing_since_unix_ns), {{"name", name}}));
    }
  }
  families.push_back(std::move(registered));
  if (!since.metric.empty()) families.push_back(std::move(since));
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
    // An alert on evermap_mapper_up then also fires when there is no registry.
    families.push_back(MapperUp(false));
    return families;
  }
  AppendMapper(snapshot, families);
  AppendUpgrade(snapshot, families);
  AppendRegistry(snapshot, families);
  AppendCounters(snapshot, families);
  families.push_back(RequestDurations(snapshot));
  AppendExpected(snapshot, families);
  AppendNodes(snapshot, families);
  return families;
}

std::string MetricsText(const Snapshot& snapshot) {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, Metrics(snapshot));
  return text.str();
}

}  // namespace evermap::exporter
