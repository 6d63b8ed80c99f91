#include "tools/epmdctl/status_command.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "registry/base/clock.h"
#include "registry/counter_totals.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "tools/epmdctl/view/counters.h"
#include "tools/epmdctl/view/output.h"

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
};

Status Collect(const RegistryView& view) {
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
  return status;
}

void PrintRow(const char* name, const std::string& value) {
  std::printf("  %-22s  %s\n", name, Printable(value).c_str());
}

void PrintLatency(const LatencyCounts& latency) {
  const auto print = [&](const char* name, double share) {
    const std::optional<uint64_t> ns = LatencyQuantileNs(latency, share);
    PrintRow(name, ns.has_value() ? "below " + LatencyText(*ns) : "");
  };
  print("latency p50", 0.5);
  print("latency p99", 0.99);
  print("latency max", 1);
}

void Print(const std::string& path, const Status& status) {
  const MapperStatus& mapper = status.mapper;
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
  std::printf("Since the registry was made\n");
  for (size_t i = 0; i < status.counters.values.size(); ++i) {
    PrintRow(CounterText(kCounters[i]).c_str(), std::to_string(status.counters.values[i]));
  }
  PrintLatency(status.counters.latency);
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
  return {
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

int ShowStatus(CurrentRegistry& registry, bool json) {
  Status status;
  std::string error;
  if (!registry.Read([&](const RegistryView& view) { status = Collect(view); }, error)) {
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
