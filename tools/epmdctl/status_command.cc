#include "tools/epmdctl/status_command.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "registry/activity.h"
#include "registry/base/clock.h"
#include "registry/counter_totals.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/settings_note.h"
#include "tools/epmdctl/view/counters.h"
#include "tools/epmdctl/view/output.h"
#include "tools/epmdctl/view/wellness.h"
#include "tools/expected.h"

namespace evermap {
namespace {

struct Status {
  MapperStatus mapper;
  UpgradeStatus upgrade;
  bool running = false;
  int64_t uptime_s = 0;
  uint32_t live = 0;
  uint32_t orphaned = 0;
  uint32_t names_known = 0;
  uint32_t capacity = 0;
  CounterTotals counters;
  std::vector<ExpectedNode> expected;
  SettingsNote settings;
  std::optional<CounterTotals> last_minute;  // what was counted in it, if that is known
};

Condition ConditionOf(const Status& status) {
  return {.running = status.running,
          .mapper = status.mapper,
          .upgrade = status.upgrade,
          .live = status.live,
          .orphaned = status.orphaned,
          .capacity = status.capacity,
          .connections_now = status.counters.connections_now,
          .expected = status.expected,
          .refusal = status.settings.refusal,
          .warnings = status.settings.warnings,
          .last_minute = status.last_minute};
}

// What a mapper that runs tells beyond its registry.
void CollectActivity(const std::string& path, const RegistryView& view, Status& status) {
  const std::optional<ActivityReport> activity = ReadActivity(path);
  if (!status.running || !activity.has_value()) return;
  status.expected = ExpectedNodes(activity->expected, view);
  const CounterTotals now = ReadCounterTotals(view, activity->workers);
  status.last_minute = Growth(activity->minute_ago.value_or(now), now);
}

Status Collect(const std::string& path, const RegistryView& view) {
  Status status;
  status.mapper = view.mapper_status();
  status.upgrade = view.upgrade_status();
  status.running = IsRunning(status.mapper);
  const int64_t now_s = UnixNs() / kNsPerSecond;
  status.uptime_s = std::max<int64_t>(0, now_s - status.mapper.started_unix_ns / kNsPerSecond);
  status.capacity = view.capacity();
  Registration node;
  const uint32_t slots = view.slots_used();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, node)) continue;
    ++status.names_known;
    if (node.state == RegistrationState::kLive) ++status.live;
    if (node.state == RegistrationState::kOrphaned) ++status.orphaned;
  }
  status.counters = ReadCounterTotals(view);
  CollectActivity(path, view, status);
  std::string unread;
  if (!ReadSettingsNote(path, status.settings, unread)) status.settings = {};
  return status;
}

void PrintRow(const char* name, const std::string& value) {
  std::printf("  %-22s  %s\n", name, Printable(value).c_str());
}

std::string QuantileText(const LatencyCounts& latency, double share) {
  const std::optional<uint64_t> ns = LatencyQuantileNs(latency, share);
  return ns.has_value() ? "below " + LatencyText(*ns) : "-";
}

// A row for each counter of what went wrong, or of all else: in the last minute, and since the registry was made.
void PrintCounters(const Status& status, bool of_errors) {
  for (size_t i = 0; i < status.counters.values.size(); ++i) {
    if (kCounters[i].is_error() != of_errors) continue;
    if (of_errors && status.counters.values[i] == 0) continue;
    const std::string minute =
        status.last_minute.has_value() ? std::to_string(status.last_minute->values[i]) : "-";
    std::printf("  %-22s  %12s  %12s\n", CounterText(kCounters[i]).c_str(), minute.c_str(),
                std::to_string(status.counters.values[i]).c_str());
  }
}

void PrintLatency(const Status& status) {
  for (const auto& [name, share] :
       {std::pair{"latency p50", 0.5}, std::pair{"latency p99", 0.99},
        std::pair{"latency p99.9", 0.999}, std::pair{"latency max", 1.0}}) {
    const std::string minute =
        status.last_minute.has_value() ? QuantileText(status.last_minute->latency, share) : "-";
    std::printf("  %-22s  %12s  %12s\n", name, minute.c_str(),
                QuantileText(status.counters.latency, share).c_str());
  }
}

void PrintExpected(const std::vector<ExpectedNode>& expected) {
  if (expected.empty()) return;
  std::printf("Expected nodes\n");
  for (const ExpectedNode& node : expected) {
    PrintRow(
        Printable(node.name).c_str(),
        node.is_missing ? "missing since " + TimeText(node.missing_since_unix_ns) : "registered");
  }
}

void Print(const std::string& path, const Status& status) {
  const MapperStatus& mapper = status.mapper;
  const Style style = Style::OfStandardOutput();
  const Diagnosis diagnosis = JudgeWellness(ConditionOf(status));
  const std::string line = WellnessLine(ConditionOf(status), diagnosis);
  std::printf("%s\n", (diagnosis.wellness == Wellness::kWell      ? style.Good(line)
                       : diagnosis.wellness == Wellness::kWarning ? style.Warning(line)
                                                                  : style.Bad(line))
                          .c_str());
  PrintExpected(status.expected);
  std::printf("  %-22s  %12s  %12s\n", "What went wrong", "last minute", "in all");
  PrintCounters(status, /*of_errors=*/true);
  if (status.running) {
    std::printf("The mapper runs.\n");
  } else if (mapper.pid == 0) {
    std::printf("The mapper does not run, or it has not said anything yet.\n");
  } else {
    std::printf("The mapper does not run. Of the last one it is known:\n");
  }
  if (mapper.pid != 0) {
    PrintRow("version", mapper.version);
    PrintRow("pid", std::to_string(mapper.pid));
    PrintRow("started", TimeText(mapper.started_unix_ns));
    if (status.running) PrintRow("uptime", DurationText(status.uptime_s));
    PrintRow("workers", std::to_string(mapper.workers));
    PrintRow("event loop", mapper.loop);
    PrintRow("custody", mapper.custody);
    PrintRow("descriptors at most", std::to_string(mapper.descriptors_max));
  }
  std::printf("Registry %s\n", Printable(path).c_str());
  PrintRow("registered", std::to_string(status.live + status.orphaned));
  PrintRow("of these orphaned", std::to_string(status.orphaned));
  PrintRow("names known", std::to_string(status.names_known));
  PrintRow("capacity", std::to_string(status.capacity));
  std::printf("  %-22s  %12s  %12s\n", "Counted", "last minute", "in all");
  PrintCounters(status, /*of_errors=*/false);
  PrintLatency(status);
  std::printf("Last upgrade\n");
  PrintRow("outcome", OutcomeText(status.upgrade.outcome));
  if (status.upgrade.outcome == UpgradeStatus::Outcome::kNone) return;
  PrintRow("time", TimeText(status.upgrade.unix_ns));
  PrintRow("text", status.upgrade.text);
}

nlohmann::json ToJson(const std::string& path, const Status& status) {
  const MapperStatus& mapper = status.mapper;
  const auto if_known = [&](const nlohmann::json& value) {
    return mapper.pid == 0 ? nlohmann::json() : value;
  };
  const Diagnosis diagnosis = JudgeWellness(ConditionOf(status));
  nlohmann::json expected = nlohmann::json::array();
  for (const ExpectedNode& node : status.expected) {
    expected.push_back({{"name", Printable(node.name)},
                        {"missing", node.is_missing},
                        {"missing_since", TimeOrNull(node.missing_since_unix_ns)}});
  }
  nlohmann::json last_minute;
  if (status.last_minute.has_value()) {
    last_minute = {{"counters", CountersJson(*status.last_minute)},
                   {"latency", LatencyJson(status.last_minute->latency)}};
  }
  return {
      {"well", diagnosis.complaints.empty()},
      {"complaints", diagnosis.complaints},
      {"expected", expected},
      {"last_minute", last_minute},
      {"running", status.running},
      {"version", if_known(mapper.version)},
      {"pid", if_known(mapper.pid)},
      {"started", if_known(TimeText(mapper.started_unix_ns))},
      {"uptime_s", status.running ? nlohmann::json(status.uptime_s) : nlohmann::json()},
      {"workers", if_known(mapper.workers)},
      {"loop", if_known(mapper.loop)},
      {"custody", if_known(mapper.custody)},
      {"descriptors_max", if_known(mapper.descriptors_max)},
      {"registry", path},
      {"registered", status.live + status.orphaned},
      {"orphaned", status.orphaned},
      {"names_known", status.names_known},
      {"capacity", status.capacity},
      {"counters", CountersJson(status.counters)},
      {"connections", status.counters.connections_now},
      {"latency", LatencyJson(status.counters.latency)},
      {"last_upgrade", ToJson(status.upgrade)},
  };
}

}  // namespace

const char* OutcomeText(UpgradeStatus::Outcome outcome) {
  switch (outcome) {
    case UpgradeStatus::Outcome::kNone:
      return "none";
    case UpgradeStatus::Outcome::kRunning:
      return "running";
    case UpgradeStatus::Outcome::kSucceeded:
      return "succeeded";
    case UpgradeStatus::Outcome::kFailed:
      return "failed";
  }
  return "unknown";
}

nlohmann::json ToJson(const UpgradeStatus& upgrade) {
  if (upgrade.outcome == UpgradeStatus::Outcome::kNone) return {};
  return {
      {"number", upgrade.number},
      {"outcome", OutcomeText(upgrade.outcome)},
      {"time", TimeText(upgrade.unix_ns)},
      {"text", upgrade.text},
  };
}

int CheckStatus(CurrentRegistry& registry) {
  Status status;
  std::string error;
  const auto collect = [&](const RegistryView& view) { status = Collect(registry.path(), view); };
  if (!registry.Read(collect, error)) {
    // Where there is no registry, no mapper has ever run.
    std::printf("EPMD CRITICAL - %s\n", Printable(error).c_str());
    return static_cast<int>(Wellness::kCritical);
  }
  const Condition condition = ConditionOf(status);
  const Diagnosis diagnosis = JudgeWellness(condition);
  std::printf("%s\n", PluginLine(condition, diagnosis).c_str());
  return static_cast<int>(diagnosis.wellness);
}

int ShowStatus(CurrentRegistry& registry, bool json) {
  Status status;
  std::string error;
  const auto collect = [&](const RegistryView& view) { status = Collect(registry.path(), view); };
  if (!registry.Read(collect, error)) {
    PrintError(error);
    return kExitNoRegistry;
  }
  if (json) {
    PrintJson(ToJson(registry.path(), status));
  } else {
    Print(registry.path(), status);
  }
  return status.running ? 0 : kExitNotRunning;
}

}  // namespace evermap
