#include "tools/status_command.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>

#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/statistics.h"
#include "tools/output.h"

namespace evermap {
namespace {

struct Counted {
  const char* name;  // in JSON; with spaces for underscores: on a terminal
  Counter WorkerStatistics::*counter;
};
// By kind of request, then what happened to connections and to registrations.
constexpr Counted kCounted[] = {
    {"alive2_registered", &WorkerStatistics::alive2_registered},
    {"alive2_refused", &WorkerStatistics::alive2_refused},
    {"alive2_not_local", &WorkerStatistics::alive2_not_local},
    {"port2_found", &WorkerStatistics::port2_found},
    {"port2_unknown", &WorkerStatistics::port2_unknown},
    {"names", &WorkerStatistics::names},
    {"dump", &WorkerStatistics::dump},
    {"kill", &WorkerStatistics::kill},
    {"stop", &WorkerStatistics::stop},
    {"connections_accepted", &WorkerStatistics::connections_accepted},
    {"closed_malformed", &WorkerStatistics::closed_malformed},
    {"closed_timeout", &WorkerStatistics::closed_timeout},
    {"closed_evicted", &WorkerStatistics::closed_evicted},
    {"closed_source_bound", &WorkerStatistics::closed_source_bound},
    {"refused_descriptors", &WorkerStatistics::refused_descriptors},
    {"refused_registry_full", &WorkerStatistics::refused_registry_full},
    {"accept_errors", &WorkerStatistics::accept_errors},
    {"unregistered", &WorkerStatistics::unregistered},
    {"holders_found_gone", &WorkerStatistics::holders_found_gone},
    {"orphaned", &WorkerStatistics::orphaned},
    {"adopted", &WorkerStatistics::adopted},
    {"orphans_ended", &WorkerStatistics::orphans_ended},
    {"stored", &WorkerStatistics::stored},
};

struct Status {
  MapperStatus mapper;
  UpgradeStatus upgrade;
  bool running = false;
  int64_t uptime_s = 0;
  uint32_t live = 0;
  uint32_t orphaned = 0;
  uint32_t names_known = 0;
  uint32_t capacity = 0;
  std::array<uint64_t, std::size(kCounted)> counters = {};
};

Status Collect(const RegistryView& view) {
  Status status;
  status.mapper = view.mapper_status();
  status.upgrade = view.upgrade_status();
  status.running = IsRunning(status.mapper);
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  status.uptime_s =
      std::max<int64_t>(0, now.tv_sec - status.mapper.started_unix_ns / 1'000'000'000);
  status.capacity = view.capacity();
  Registration node;
  const uint32_t slots = view.slots_used();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, node)) continue;
    ++status.names_known;
    if (node.state == RegistrationState::kLive) ++status.live;
    if (node.state == RegistrationState::kOrphaned) ++status.orphaned;
  }
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    for (size_t i = 0; i < status.counters.size(); ++i) {
      const Counter& counter = view.statistics(worker).*kCounted[i].counter;
      status.counters[i] += counter.load(std::memory_order_relaxed);
    }
  }
  return status;
}

// Like "3 d 4 h"; two units, the largest first.
std::string DurationText(int64_t seconds) {
  constexpr struct {
    int64_t seconds;
    const char* name;
  } kUnits[] = {{86400, " d"}, {3600, " h"}, {60, " min"}, {1, " s"}};
  std::string text;
  int units = 0;
  for (const auto& unit : kUnits) {
    if (units == 0 && seconds < unit.seconds && unit.seconds > 1) continue;
    if (!text.empty()) text += " ";
    text += std::to_string(seconds / unit.seconds) + unit.name;
    seconds %= unit.seconds;
    if (++units == 2) break;
  }
  return text;
}

void PrintRow(const char* name, const std::string& value) {
  std::printf("  %-22s  %s\n", name, Printable(value).c_str());
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
  for (size_t i = 0; i < status.counters.size(); ++i) {
    std::string name = kCounted[i].name;
    std::replace(name.begin(), name.end(), '_', ' ');
    PrintRow(name.c_str(), std::to_string(status.counters[i]));
  }
  std::printf("Last upgrade\n");
  PrintRow("outcome", OutcomeText(status.upgrade.outcome));
  if (status.upgrade.outcome == UpgradeStatus::Outcome::kNone) return;
  PrintRow("time", TimeText(status.upgrade.unix_ns));
  PrintRow("text", status.upgrade.text);
}

nlohmann::json ToJson(const std::string& path, const Status& status) {
  const MapperStatus& mapper = status.mapper;
  nlohmann::json counters = nlohmann::json::object();
  for (size_t i = 0; i < status.counters.size(); ++i) {
    counters[kCounted[i].name] = status.counters[i];
  }
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
      {"counters", counters},
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
