#include "tools/epmdctl/list_command.h"

#include <pwd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "daemon/host/sock_diag.h"
#include "daemon/wire/protocol.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "tools/epmdctl/host/node_processes.h"
#include "tools/epmdctl/view/output.h"

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

// What is known of the process behind a registration. A text that is not known is empty, a number
// 0.
struct Owner {
  std::string uid;
  std::string user;
  int pid = 0;
};

Owner OwnerOf(const Registration& node, const std::map<uint64_t, int>& processes) {
  Owner owner;
  const auto process = processes.find(node.id);
  if (process != processes.end()) owner.pid = process->second;
  if (node.owner_uid == kUnknownUid) return owner;
  owner.uid = std::to_string(node.owner_uid);
  const passwd* user = getpwuid(node.owner_uid);
  if (user != nullptr) owner.user = user->pw_name;
  return owner;
}

nlohmann::json ToJson(const Registration& node, const std::map<uint64_t, int>& processes) {
  const Owner owner = OwnerOf(node, processes);
  const nlohmann::json unknown;
  return {
      {"name", node.name()},
      {"port", node.port},
      {"creation", node.creation},
      {"since", TimeOrNull(node.since_unix_ns)},
      {"left", TimeOrNull(node.left_unix_ns)},
      {"state", StateText(node.state)},
      {"hidden", node.node_type == protocol::kNodeTypeHidden},
      {"highest_version", node.highest_version},
      {"lowest_version", node.lowest_version},
      {"uid", owner.uid.empty() ? unknown : nlohmann::json(node.owner_uid)},
      {"user", owner.user.empty() ? unknown : nlohmann::json(owner.user)},
      {"pid", owner.pid == 0 ? unknown : nlohmann::json(owner.pid)},
  };
}

void PrintHead() {
  std::printf("%-32s %5s %10s  %-20s  %-12s %7s  %s\n", "NAME", "PORT", "CREATION", "SINCE", "USER",
              "PID", "STATE");
}

void PrintRow(const Registration& node, const std::map<uint64_t, int>& processes) {
  const Owner owner = OwnerOf(node, processes);
  const std::string user = !owner.user.empty() ? owner.user : owner.uid;
  const std::string left = node.left_unix_ns == 0 ? "" : " since " + TimeText(node.left_unix_ns);
  std::printf("%-32s %5u %10u  %s  %-12s %7s  %s%s\n", Printable(node.name()).c_str(),
              unsigned{node.port}, node.creation, TimeText(node.since_unix_ns).c_str(),
              user.empty() ? "-" : user.c_str(),
              owner.pid == 0 ? "-" : std::to_string(owner.pid).c_str(), StateText(node.state),
              left.c_str());
}

}  // namespace

int ListNodes(CurrentRegistry& registry, bool all, bool json) {
  std::vector<Registration> nodes;
  std::string error;
  MapperStatus mapper;
  const auto collect = [&](const RegistryView& view) {
    mapper = view.mapper_status();
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
  if (!json) NoteWithoutMapper(mapper);
  std::sort(nodes.begin(), nodes.end(),
            [](const Registration& a, const Registration& b) { return a.name() < b.name(); });
  const std::map<uint64_t, int> processes = FindProcesses(nodes);
  if (json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Registration& listed : nodes) list.push_back(ToJson(listed, processes));
    PrintJson(list);
    return 0;
  }
  PrintHead();
  for (const Registration& listed : nodes) PrintRow(listed, processes);
  return 0;
}

nlohmann::json NodeJson(const Registration& node) { return ToJson(node, FindProcesses({node})); }

std::string OwnerLine(const nlohmann::json& node) {
  std::string line = node["state"].get<std::string>() + " at port " +
                     std::to_string(node["port"].get<int>()) + " since " +
                     node["since"].get<std::string>();
  if (!node["uid"].is_null()) {
    line += ", of user " + std::to_string(node["uid"].get<uint32_t>());
    if (!node["user"].is_null()) line += " (" + Printable(node["user"].get<std::string>()) + ")";
  }
  if (!node["pid"].is_null()) line += ", process " + std::to_string(node["pid"].get<int>());
  return line;
}

void PrintNode(const Registration& node) {
  PrintHead();
  PrintRow(node, FindProcesses({node}));
}

}  // namespace evermap
