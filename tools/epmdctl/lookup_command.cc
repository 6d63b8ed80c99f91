#include "tools/epmdctl/lookup_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "daemon/wire/client.h"
#include "registry/registration.h"
#include "tools/epmdctl/list_command.h"
#include "tools/epmdctl/remote.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// `registry_problem`: why the registry could not be read; empty when another host was named.
int LookupOverTcp(const std::string& host, uint16_t port, const std::string& name, bool json,
                  const std::string& registry_problem) {
  const Client client(host, port, {.timeout = kRemoteTimeout});
  const absl::StatusOr<Client::Node> node = client.Lookup(name);
  if (!node.ok()) {
    PrintError(std::string(node.status().message()));
    if (absl::IsNotFound(node.status())) return kExitFailed;
    if (!registry_problem.empty()) PrintError(registry_problem);
    return kExitNoRegistry;
  }
  if (json) {
    nlohmann::json answer = {
        {"name", node->name},
        {"port", node->port},
        {"creation", nullptr},
        {"since", nullptr},
        {"left", nullptr},
        {"state", "registered"},
        {"hidden", node->node_type == protocol::kNodeTypeHidden},
        {"highest_version", node->highest_version},
        {"lowest_version", node->lowest_version},
        {"uid", nullptr},
        {"user", nullptr},
        {"pid", nullptr},
    };
    answer["via"] = "tcp";
    answer["mapper"] = {{"host", host}, {"port", port}};
    PrintJson(answer);
    return 0;
  }
  std::printf("%-32s %5s  %s\n", "NAME", "PORT", "STATE");
  std::printf("%-32s %5u  registered\n", Printable(node->name).c_str(), unsigned{node->port});
  std::printf("over TCP, from the mapper on %s port %u\n", Printable(host).c_str(), unsigned{port});
  return 0;
}

int LookupInRegistry(const std::string& path, const Registration& node, bool json) {
  if (json) {
    nlohmann::json answer = NodeJson(node);
    answer["via"] = "shared memory";
    answer["registry"] = path;
    PrintJson(answer);
    return 0;
  }
  PrintNode(node);
  std::printf("from shared memory, %s\n", Printable(path).c_str());
  return 0;
}

}  // namespace

NodeAddress ParseNodeAddress(const std::string& text) {
  const size_t at = text.rfind('@');
  if (at == std::string::npos) return {text, ""};
  return {text.substr(0, at), text.substr(at + 1)};
}

int LookupNode(CurrentRegistry& registry, uint16_t port, const std::string& node, bool json) {
  const NodeAddress address = ParseNodeAddress(node);
  if (!address.host.empty()) return LookupOverTcp(address.host, port, address.name, json, "");
  Registration found;
  bool is_found = false;
  std::string error;
  MapperStatus mapper;
  const auto lookup = [&](const RegistryView& view) {
    mapper = view.mapper_status();
    is_found = view.Lookup(address.name, found);
  };
  if (!registry.Read(lookup, error)) {
    return LookupOverTcp(kThisHost, port, address.name, json, error);
  }
  if (!json) NoteWithoutMapper(mapper);
  if (!is_found) {
    return Fail(Printable(address.name) + " is not registered, says " + registry.path());
  }
  return LookupInRegistry(registry.path(), found, json);
}

}  // namespace evermap
