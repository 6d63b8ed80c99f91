#include "tools/epmdctl/view/wellness.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "registry/base/text.h"
#include "registry/counters.h"
#include "tools/epmdctl/view/counters.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

class Complaints {
 public:
  explicit Complaints(Diagnosis& diagnosis) : diagnosis_(diagnosis) {}

  void Add(Wellness severity, std::string text) {
    std::vector<std::string>& all = diagnosis_.complaints;
    if (severity == Wellness::kCritical) {
      all.insert(all.begin() + critical_++, std::move(text));
    } else {
      all.push_back(std::move(text));
    }
    diagnosis_.wellness = std::max(diagnosis_.wellness, severity);
  }
  // When so many happened in the last minute.
  void Count(const CounterTotals& last_minute, Counter WorkerStatistics::*counter,
             Wellness severity, const char* what) {
    const uint64_t count = last_minute.Of(counter);
    if (count > 0) Add(severity, absl::StrCat(count, " ", what, " in the last minute"));
  }

 private:
  Diagnosis& diagnosis_;
  std::ptrdiff_t critical_ = 0;  // so many stand in front
};

bool IsFull(uint64_t used, uint64_t of) { return of > 0 && used * 100 > of * kFullPercent; }

std::string RequestsText(const Condition& condition) {
  if (!condition.last_minute.has_value()) return "";
  const uint64_t requests = LatencyCount(condition.last_minute->latency);
  return absl::StrCat(", ", GroupedText(requests), requests == 1 ? " request" : " requests",
                      " in the last minute");
}

}  // namespace

Diagnosis JudgeWellness(const Condition& condition) {
  Diagnosis diagnosis;
  Complaints complaints(diagnosis);
  if (!condition.running) {
    complaints.Add(Wellness::kCritical, "the mapper does not run");
    return diagnosis;
  }
  for (const ExpectedNode& node : condition.expected) {
    if (!node.is_missing) continue;
    complaints.Add(Wellness::kCritical,
                   absl::StrCat("node ", Printable(node.name), " is missing since ",
                                TimeText(node.missing_since_unix_ns)));
  }
  const uint64_t registered = uint64_t{condition.live} + condition.orphaned;
  if (condition.orphaned > 0) {
    complaints.Add(Wellness::kWarning, absl::StrCat(condition.orphaned, " of ", registered,
                                                    " nodes have lost their connection"));
  }
  if (IsFull(registered, condition.capacity)) {
    complaints.Add(Wellness::kWarning, absl::StrCat("the registry has ", registered, " of ",
                                                    condition.capacity, " names"));
  }
  if (IsFull(condition.connections_now, condition.mapper.descriptors_max)) {
    complaints.Add(Wellness::kWarning,
                   absl::StrCat(condition.connections_now, " of ", condition.mapper.descriptors_max,
                                " descriptors are in use"));
  }
  if (condition.upgrade.outcome == UpgradeStatus::Outcome::kFailed) {
    complaints.Add(Wellness::kWarning, "the last upgrade failed");
  }
  if (!condition.refusal.empty()) {
    complaints.Add(Wellness::kWarning,
                   absl::StrCat("the last reload was refused: ", Printable(condition.refusal)));
  }
  if (!condition.warnings.empty()) {
    complaints.Add(Wellness::kWarning, absl::StrCat(Printable(condition.warnings.front()),
                                                    " (epmdctl config says all)"));
  }
  if (!condition.last_minute.has_value()) return diagnosis;
  const CounterTotals& minute = *condition.last_minute;
  complaints.Count(minute, &WorkerStatistics::refused_descriptors, Wellness::kCritical,
                   "nodes refused for lack of descriptors");
  complaints.Count(minute, &WorkerStatistics::refused_registry_full, Wellness::kCritical,
                   "nodes refused since the registry is full");
  complaints.Count(minute, &WorkerStatistics::alive2_refused, Wellness::kWarning,
                   "registrations refused");
  complaints.Count(minute, &WorkerStatistics::accept_errors, Wellness::kWarning,
                   "connections not accepted");
  complaints.Count(minute, &WorkerStatistics::closed_evicted, Wellness::kWarning,
                   "connections closed to make room");
  complaints.Count(minute, &WorkerStatistics::closed_source_bound, Wellness::kWarning,
                   "connections closed since one address has too many");
  return diagnosis;
}

std::string WellnessLine(const Condition& condition, const Diagnosis& diagnosis) {
  if (!diagnosis.complaints.empty()) {
    return absl::StrCat("Not well: ", absl::StrJoin(diagnosis.complaints, "; "));
  }
  const uint64_t registered = uint64_t{condition.live} + condition.orphaned;
  return absl::StrCat("All is well: ", registered, registered == 1 ? " node" : " nodes",
                      RequestsText(condition));
}

std::string PluginLine(const Condition& condition, const Diagnosis& diagnosis) {
  constexpr const char* kWords[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
  const auto missing = std::count_if(condition.expected.begin(), condition.expected.end(),
                                     [](const ExpectedNode& node) { return node.is_missing; });
  std::string line = absl::StrCat(
      "EPMD ", kWords[static_cast<size_t>(diagnosis.wellness)], " - ",
      diagnosis.complaints.empty()
          ? absl::StrCat(condition.live + condition.orphaned, " nodes", RequestsText(condition))
          : absl::StrJoin(diagnosis.complaints, "; "));
  // What stands behind this sign is for programs.
  std::replace(line.begin(), line.end(), '|', '/');
  absl::StrAppend(&line, " | nodes=", condition.live + condition.orphaned,
                  " orphaned=", condition.orphaned, " missing=", missing,
                  " connections=", condition.connections_now);
  if (condition.last_minute.has_value()) {
    const LatencyCounts& latency = condition.last_minute->latency;
    absl::StrAppend(&line, " requests=", LatencyCount(latency));
    const std::optional<uint64_t> p99_ns = LatencyQuantileNs(latency, 0.99);
    if (p99_ns.has_value()) {
      absl::StrAppend(&line, " p99=", static_cast<double>(*p99_ns) / 1000, "us");
    }
  }
  return line;
}

}  // namespace evermap
