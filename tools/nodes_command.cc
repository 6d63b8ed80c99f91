#include "tools/nodes_command.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "registry/reader.h"
#include "registry/registration.h"
#include "tools/output.h"

namespace evermap {
namespace {

const char* StateText(RegistrationState state) {
  switch (state) {
    case RegistrationState::kLive:
      return "live";
    case RegistrationState::kOrphaned:
      return "orphaned";
    case RegistrationState::kRemembered:
      return "remembered";
  }
  return "unknown";
}

nlohmann::json ToJson(const Registration& node) {
  return {
      {"name", node.name()},
      {"port", node.port},
      {"creation", node.creation},
      {"since", TimeOrNull(node.since_unix_ns)},
      {"left", TimeOrNull(node.left_unix_ns)},
      {"state", StateText(node.state)},
      {"hidden", node.node_type == 72},
      {"highest_version", node.highest_version},
      {"lowest_version", node.lowest_version},
  };
}

void PrintHead() {
  std::printf("%-32s %5s %10s  %-20s  %s\n", "NAME", "PORT", "CREATION", "SINCE", "STATE");
}

void PrintRow(const Registration& node) {
  const std::string left = node.left_unix_ns == 0 ? "" : " since " + TimeText(node.left_unix_ns);
  std::printf("%-32s %5u %10u  %s  %s%s\n", Printable(node.name()).c_str(), unsigned{node.port},
              node.creation, TimeText(node.since_unix_ns).c_str(), StateText(node.state),
              left.c_str());
}

}  // namespace

int ListNodes(CurrentRegistry& registry, bool all, bool json) {
  std::vector<Registration> nodes;
  std::string error;
  const auto collect = [&](const RegistryView& view) {
    nodes.clear();
    Registration node;
    const uint32_t slots = view.slots_used();
    for (uint32_t slot = 0; slot < slots; ++slot) {
      if (!view.ReadSlot(slot, node)) continue;
      if (all || node.state != RegistrationState::kRemembered) nodes.push_back(node);
    }
  };
  if (!registry.Read(collect, error)) {
    PrintError(error);
    return kExitNoRegistry;
  }
  std::sort(nodes.begin(), nodes.end(),
            [](const Registration& a, const Registration& b) { return a.name() < b.name(); });
  if (json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Registration& listed : nodes) list.push_back(ToJson(listed));
    PrintJson(list);
    return 0;
  }
  PrintHead();
  for (const Registration& listed : nodes) PrintRow(listed);
  return 0;
}

nlohmann::json NodeJson(const Registration& node) { return ToJson(node); }

void PrintNode(const Registration& node) {
  PrintHead();
  PrintRow(node);
}

}  // namespace evermap
