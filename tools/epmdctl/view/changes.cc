#include "tools/epmdctl/view/changes.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "absl/strings/str_format.h"
#include "tools/epmdctl/status_command.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

using Kind = Change::Kind;
using Outcome = UpgradeStatus::Outcome;

bool IsRegistered(const NodeState& node) { return node.state != RegistrationState::kRemembered; }

Change Of(Kind kind, int64_t unix_ns, const NodeState& node) {
  Change change;
  change.kind = kind;
  change.unix_ns = unix_ns;
  change.node = node;
  return change;
}

void AppendEnd(const NodeState& last, int64_t unix_ns, std::vector<Change>& changes) {
  const bool was_orphaned = last.state == RegistrationState::kOrphaned;
  changes.push_back(Of(was_orphaned ? Kind::kOrphanEnded : Kind::kLeft, unix_ns, last));
}

void AppendChange(const NodeState& was, const NodeState& is, int64_t now_unix_ns,
                  std::vector<Change>& changes) {
  if (was.state == is.state || !IsRegistered(was)) return;
  switch (is.state) {
    case RegistrationState::kRemembered:
      AppendEnd(was, is.left_unix_ns, changes);
      break;
    case RegistrationState::kOrphaned:
      changes.push_back(Of(Kind::kOrphaned, is.left_unix_ns, is));
      break;
    case RegistrationState::kLive:
      changes.push_back(Of(Kind::kAdopted, now_unix_ns, is));
      break;
  }
}

void AppendArrival(const NodeState& node, std::vector<Change>& changes) {
  changes.push_back(Of(Kind::kRegistered, node.since_unix_ns, node));
  if (node.state == RegistrationState::kOrphaned) {
    changes.push_back(Of(Kind::kOrphaned, node.left_unix_ns, node));
  } else if (node.state == RegistrationState::kRemembered) {
    changes.push_back(Of(Kind::kLeft, node.left_unix_ns, node));
  }
}

bool IsSameMapper(const MapperStatus& a, const MapperStatus& b) {
  return a.pid == b.pid && a.start_ticks == b.start_ticks;
}

void AppendMapper(const RegistryState& before, const RegistryState& after, int64_t now_unix_ns,
                  std::vector<Change>& changes) {
  Change change;
  const bool is_same = IsSameMapper(before.mapper, after.mapper);
  change.unix_ns = now_unix_ns;
  if (before.mapper_runs && !after.mapper_runs) {
    change.kind = Kind::kMapperStopped;
    change.mapper = before.mapper;
    changes.push_back(change);
  } else if (after.mapper_runs && (!is_same || !before.mapper_runs)) {
    change.kind = Kind::kMapperStarted;
    change.mapper = after.mapper;
    change.previous_pid = before.mapper_runs ? before.mapper.pid : 0;
    changes.push_back(change);
  }
  const bool is_same_upgrade = before.upgrade.number == after.upgrade.number &&
                               before.upgrade.outcome == after.upgrade.outcome;
  if (is_same_upgrade || after.upgrade.outcome == Outcome::kNone) return;
  change = Change();
  change.kind = Kind::kUpgrade;
  change.unix_ns = after.upgrade.unix_ns;
  change.upgrade = after.upgrade;
  changes.push_back(change);
}

std::string UpgradeText(const UpgradeStatus& upgrade) {
  const std::string text = upgrade.text.empty() ? "" : ": " + upgrade.text;
  return absl::StrFormat(
      "upgrade %d %s%s", upgrade.number,
      upgrade.outcome == Outcome::kRunning ? "begins" : OutcomeText(upgrade.outcome), text);
}

}  // namespace

void CaptureMapper(const RegistryView& view, RegistryState& state) {
  state.mapper = view.mapper_status();
  state.mapper_runs = IsRunning(state.mapper);
  state.upgrade = view.upgrade_status();
}

RegistryState Capture(const RegistryView& view) {
  RegistryState state;
  // The generation is read before the nodes, so that a change meanwhile leads to another look.
  state.generation = view.generation();
  CaptureMapper(view, state);
  Registration node;
  const uint32_t slots = view.slots_used();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, node)) continue;
    state.nodes[{node.id, node.since_unix_ns}] = {
        std::string(node.name()), node.port,         node.creation, node.state,
        node.since_unix_ns,       node.left_unix_ns,
    };
  }
  return state;
}

std::vector<Change> Changes(const RegistryState& before, const RegistryState& after,
                            int64_t now_unix_ns) {
  std::unordered_map<std::string_view, int64_t> arrivals;
  for (const auto& [key, is] : after.nodes) {
    if (!before.nodes.contains(key)) arrivals.emplace(is.name, is.since_unix_ns);
  }
  std::vector<Change> changes;
  for (const auto& [key, was] : before.nodes) {
    const auto is = after.nodes.find(key);
    if (is != after.nodes.end()) {
      AppendChange(was, is->second, now_unix_ns, changes);
    } else if (IsRegistered(was)) {
      // The time of the end is not known any more; it was not after the name was registered again.
      const auto arrival = arrivals.find(was.name);
      AppendEnd(was, arrival == arrivals.end() ? now_unix_ns : arrival->second, changes);
    }
  }
  for (const auto& [key, is] : after.nodes) {
    if (!before.nodes.contains(key)) AppendArrival(is, changes);
  }
  AppendMapper(before, after, now_unix_ns, changes);
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change& a, const Change& b) { return a.unix_ns < b.unix_ns; });
  return changes;
}

const char* ChangeName(Kind kind) {
  switch (kind) {
    case Kind::kRegistered:
      return "registered";
    case Kind::kLeft:
      return "left";
    case Kind::kOrphaned:
      return "orphaned";
    case Kind::kAdopted:
      return "adopted";
    case Kind::kOrphanEnded:
      return "orphan_ended";
    case Kind::kMapperStarted:
      return "mapper_started";
    case Kind::kMapperStopped:
      return "mapper_stopped";
    case Kind::kUpgrade:
      return "upgrade";
  }
  return "unknown";
}

std::string ChangeText(const Change& change) {
  switch (change.kind) {
    case Kind::kMapperStarted:
      return absl::StrFormat(
          "mapper started: pid %d, version %s%s", change.mapper.pid, change.mapper.version,
          change.previous_pid == 0 ? "" : absl::StrFormat(", in place of %d", change.previous_pid));
    case Kind::kMapperStopped:
      return absl::StrFormat("mapper stopped: pid %d", change.mapper.pid);
    case Kind::kUpgrade:
      return UpgradeText(change.upgrade);
    case Kind::kOrphanEnded:
      return absl::StrFormat("orphan ended %s port %d creation %d", Printable(change.node.name),
                             change.node.port, change.node.creation);
    default:
      return absl::StrFormat("%s %s port %d creation %d", ChangeName(change.kind),
                             Printable(change.node.name), change.node.port, change.node.creation);
  }
}

nlohmann::json ChangeJson(const Change& change) {
  nlohmann::json json = {{"time", TimeTextMs(change.unix_ns)}, {"event", ChangeName(change.kind)}};
  switch (change.kind) {
    case Kind::kMapperStarted:
      json["previous_pid"] =
          change.previous_pid == 0 ? nlohmann::json() : nlohmann::json(change.previous_pid);
      [[fallthrough]];
    case Kind::kMapperStopped:
      json["pid"] = change.mapper.pid;
      json["version"] = change.mapper.version;
      break;
    case Kind::kUpgrade:
      json["number"] = change.upgrade.number;
      json["outcome"] = OutcomeText(change.upgrade.outcome);
      json["text"] = change.upgrade.text;
      break;
    default:
      json["name"] = change.node.name;
      json["port"] = change.node.port;
      json["creation"] = change.node.creation;
      json["since"] = TimeOrNull(change.node.since_unix_ns);
  }
  return json;
}

}  // namespace evermap
