// A snapshot as Prometheus metrics. What there is, by name: epmd-exporter(1).
#ifndef EVERMAP_TOOLS_EXPORTER_METRICS_H_
#define EVERMAP_TOOLS_EXPORTER_METRICS_H_

#include <string>
#include <vector>

#include "prometheus/metric_family.h"
#include "tools/exporter/snapshot.h"

namespace evermap::exporter {

// All families, those without a value left out. Of an unreadable registry: only that it is so.
std::vector<prometheus::MetricFamily> Metrics(const Snapshot& snapshot);

// In Prometheus' text format, version 0.0.4.
std::string MetricsText(const Snapshot& snapshot);

}  // namespace evermap::exporter

#endif  // EVERMAP_TOOLS_EXPORTER_METRICS_H_
