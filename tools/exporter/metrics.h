// A snapshot as Prometheus metrics. epmd-exporter(1) lists them by name; the counters among them
// are those of registry/counters.h.
#ifndef EVERMAP_TOOLS_EXPORTER_METRICS_H_
#define EVERMAP_TOOLS_EXPORTER_METRICS_H_

#include <string>
#include <vector>

#include "prometheus/metric_family.h"
#include "tools/exporter/snapshot.h"

namespace evermap::exporter {

// All families of metrics but those without a value. An unreadable registry has only the metrics
// that say so.
std::vector<prometheus::MetricFamily> Metrics(const Snapshot& snapshot);

// In Prometheus' text format, version 0.0.4.
std::string MetricsText(const Snapshot& snapshot);

}  // namespace evermap::exporter

#endif  // EVERMAP_TOOLS_EXPORTER_METRICS_H_
