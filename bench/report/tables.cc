#include "bench/report/tables.h"

#include "absl/strings/str_format.h"

namespace evermap::bench {
namespace {

std::string Line(absl::string_view what, double value, absl::string_view unit) {
  return absl::StrFormat("  %-38s %12.2f %s\n", what, value, unit);
}
std::string Line(absl::string_view what, uint64_t value) {
  return absl::StrFormat("  %-38s %12d\n", what, value);
}

std::string Percentiles(absl::string_view title, const LatencyHistogram& latencies) {
  std::string text = absl::StrFormat("%s\n", title);
  for (const double percent : {50.0, 90.0, 99.0, 99.9, 99.99}) {
    text += Line(absl::StrFormat("p%g", percent), Us(latencies.PercentileNs(percent)), "us");
  }
  return text + Line("max", Us(latencies.max_ns()), "us");
}

std::string SpreadText(const Spread& spread) {
  return absl::StrFormat("%.3g (%.3g..%.3g)", spread.median, spread.low, spread.high);
}

// Three significant digits, but all digits from 1,000 on, where %.3g would print 3.21e+04.
std::string ValueText(const Spread& spread) {
  if (spread.median < 1000) return SpreadText(spread);
  return absl::StrFormat("%.0f (%.0f..%.0f)", spread.median, spread.low, spread.high);
}

std::string ComparisonHead(const std::string& first, const std::string& second) {
  return absl::StrFormat("%-29s %26s %26s %26s\n", "median (quartiles)", first, second, "ratio");
}

std::string ComparisonLine(std::string_view title, const std::vector<double>& first,
                           const std::vector<double>& second) {
  const bool has_both = !first.empty() && !second.empty();
  return absl::StrFormat("%-29s %26s %26s %26s\n", absl::string_view(title.data(), title.size()),
                         ValueText(SpreadOf(first)), ValueText(SpreadOf(second)),
                         has_both ? SpreadText(RatioOf(second, first)) : "");
}

std::string WrongTable(const OutcomeCounts& outcomes) {
  std::string text;
  for (size_t i = 1; i < kOutcomes; ++i) {
    const auto outcome = static_cast<Outcome>(i);
    if (outcomes.of(outcome) == 0) continue;
    const std::string_view name = OutcomeName(outcome);
    text += Line(absl::string_view(name.data(), name.size()), outcomes.of(outcome));
  }
  return text.empty() ? "" : "wrong\n" + text;
}

}  // namespace

std::string LoadTable(const LoadResult& result, const LoadOptions& options) {
  std::string text =
      absl::StrFormat("%d requests, %.0f per second, %d wrong\n", result.outcomes.total(),
                      result.PerSecond(), result.outcomes.wrong());
  text += WrongTable(result.outcomes);
  text += Percentiles(options.rate_per_s > 0 ? "latency, from the intended start"
                                             : "latency, from socket() to the end of the reply",
                      result.latencies);
  if (options.rate_per_s > 0) {
    text += "late starts\n";
    text += Line("p99", Us(result.lateness.PercentileNs(99)), "us");
    text += Line("max", Us(result.lateness.max_ns()), "us");
  }
  if (result.server.has_value()) {
    const ServerCost& cost = *result.server;
    text += "server\n";
    text += Line("CPU per request", cost.CpuUsPerRequest(), "us");
    text += Line("voluntary context switches per request", cost.PerRequest(cost.voluntary_switches),
                 "");
    text += Line("involuntary", cost.PerRequest(cost.involuntary_switches), "");
    text += Line("memory", static_cast<double>(cost.at_end.memory_bytes) / 1024, "KiB");
    text += Line("file descriptors", cost.at_end.descriptors);
    text += Line("processes", uint64_t{cost.at_end.processes});
    text += Line("threads", uint64_t{cost.at_end.threads});
  }
  return text;
}

std::string RestartTable(const RestartResult& result, const LoadOptions& options) {
  std::string text = LoadTable(result.load, options);
  text += "restart\n";
  text +=
      Line("the command took", absl::ToDoubleMilliseconds(result.act_end - result.act_begin), "ms");
  text +=
      Line("longest time without a correct reply", absl::ToDoubleMilliseconds(result.gap()), "ms");
  text += Line("connections of nodes lost", result.nodes.connections_lost);
  text += Line("nodes that registered again", result.nodes.registered_again);
  text += Line("creations changed", result.nodes.creations_changed);
  text += Line("registrations lost", result.registrations_lost);
  return text;
}

std::string ComparisonTable(const Contestant& first, const Contestant& second) {
  std::string text = ComparisonHead(first.label, second.label);
  for (size_t i = 0; i < kMetrics; ++i) {
    const auto metric = static_cast<Metric>(i);
    const std::vector<double>& a = first.rounds.of(metric);
    const std::vector<double>& b = second.rounds.of(metric);
    if (a.empty() && b.empty()) continue;
    text += ComparisonLine(MetricTitle(metric), a, b);
  }
  for (const Contestant* side : {&first, &second}) {
    if (side->outcomes.wrong() > 0) {
      text += absl::StrFormat("%s: %s", side->label, WrongTable(side->outcomes));
    }
  }
  return text;
}

std::string MeshTable(const std::vector<MeshCost>& first, const std::vector<MeshCost>& second) {
  std::string text = ComparisonHead("stock", "ours");
  for (const MeshMetric& metric : kMeshMetrics) {
    text += ComparisonLine(metric.title, ValuesOf(metric, first), ValuesOf(metric, second));
  }
  return text;
}

std::string BudgetTable(const SuiteResult& result) {
  std::string text = absl::StrFormat("%-58s %14s  %-26s\n", "", "budget", "measured (quartiles)");
  for (const Budget& budget : result.budgets) {
    std::string measured = budget.note;
    if (measured.empty()) {
      measured = budget.samples.size() > 1 ? SpreadText(budget.measured())
                                           : absl::StrFormat("%.4g", budget.measured().median);
    }
    const std::string limit =
        absl::StrFormat("%s %g%s%s", budget.is_minimum ? ">=" : "<=", budget.limit,
                        budget.unit.empty() ? "" : " ", budget.unit);
    text += absl::StrFormat("%-58s %14s  %-26s %s\n", budget.what, limit, measured,
                            budget.IsMet() ? "met" : "NOT MET");
  }
  return text + absl::StrFormat("%d requests, %d wrong\n", result.requests, result.wrong);
}

}  // namespace evermap::bench
