#include "tools/exporter/snapshot.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <tuple>

#include "daemon/wire/protocol.h"
#include "registry/activity.h"
#include "registry/base/text.h"
#include "registry/status.h"

namespace evermap::exporter {

const char* StateText(const Snapshot::Node& node) { return node.orphaned ? "orphaned" : "live"; }
const char* TypeText(const Snapshot::Node& node) { return node.hidden ? "hidden" : "normal"; }

std::string UidText(const Snapshot::Node& node) {
  return node.owner_uid == ~0u ? std::string() : std::to_string(node.owner_uid);
}

Snapshot Snapshot::Take(const std::string& registry_path) {
  Snapshot snapshot;
  snapshot.registry_path_ = registry_path;
  snapshot.reader_ = Reader::Open(registry_path, snapshot.problem_);
  if (snapshot.reader_ == nullptr) return snapshot;

  const RegistryView& view = snapshot.reader_->view();
  snapshot.totals_ = ReadCounterTotals(view);
  const std::optional<ActivityReport> activity = ReadActivity(registry_path);
  if (activity.has_value() && IsRunning(view.mapper_status())) {
    snapshot.expected_ = ExpectedNodes(activity->expected, view);
  }
  const uint32_t slots = view.slots_used();
  Registration found;
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, found)) continue;
    if (found.state == RegistrationState::kRemembered) {
      ++snapshot.remembered_count_;
      continue;
    }
    snapshot.nodes_.push_back({
        .name = Printable(found.name()),
        .id = found.id,
        .port = found.port,
        .creation = found.creation,
        .orphaned = found.state == RegistrationState::kOrphaned,
        .hidden = found.node_type == protocol::kNodeTypeHidden,
        .since_unix_ns = found.since_unix_ns,
        .owner_uid = found.owner_uid,
    });
  }
  // A node that left and came back while the slots were read may have been found twice. Ids grow,
  // so that the registration with the larger id is the one to keep.
  std::sort(snapshot.nodes_.begin(), snapshot.nodes_.end(), [](const Node& a, const Node& b) {
    return std::tie(a.name, b.id) < std::tie(b.name, a.id);
  });
  const auto twice = [](const Node& a, const Node& b) { return a.name == b.name; };
  snapshot.nodes_.erase(std::unique(snapshot.nodes_.begin(), snapshot.nodes_.end(), twice),
                        snapshot.nodes_.end());
  snapshot.orphaned_count_ =
      static_cast<uint32_t>(std::count_if(snapshot.nodes_.begin(), snapshot.nodes_.end(),
                                          [](const Node& node) { return node.orphaned; }));
  return snapshot;
}

}  // namespace evermap::exporter
