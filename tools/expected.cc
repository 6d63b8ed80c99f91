#include "tools/expected.h"

#include <algorithm>

#include "registry/registration.h"
#include "registry/status.h"

namespace evermap {

std::vector<ExpectedNode> ExpectedNodes(const std::vector<std::string>& names,
                                        const RegistryView& view) {
  std::vector<ExpectedNode> nodes;
  Registration found;
  bool is_any_missing = false;
  for (const std::string& name : names) {
    nodes.push_back({.name = name, .is_missing = !view.Lookup(name, found)});
    is_any_missing = is_any_missing || nodes.back().is_missing;
  }
  if (!is_any_missing) return nodes;
  const int64_t started_unix_ns = view.mapper_status().started_unix_ns;
  for (ExpectedNode& node : nodes) {
    if (node.is_missing) node.missing_since_unix_ns = started_unix_ns;
  }
  const uint32_t slots = view.slots_used();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, found) || found.state != RegistrationState::kRemembered) continue;
    const auto node = std::find_if(nodes.begin(), nodes.end(), [&found](const ExpectedNode& one) {
      return one.is_missing && one.name == found.name();
    });
    if (node != nodes.end() && found.left_unix_ns > 0) {
      node->missing_since_unix_ns = found.left_unix_ns;
    }
  }
  return nodes;
}

}  // namespace evermap
