#include "tools/epmdctl/names_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/wire/client.h"
#include "tools/epmdctl/remote.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {

int ListNames(const std::string& host, uint16_t port, bool json) {
  const Client client(host, port, {.timeout = kRemoteTimeout});
  const absl::StatusOr<std::vector<Client::NamedPort>> names = client.Names();
  if (!names.ok()) {
    PrintError(std::string(names.status().message()));
    return kExitNoRegistry;
  }
  if (json) {
    nlohmann::json nodes = nlohmann::json::array();
    for (const Client::NamedPort& node : *names) {
      nodes.push_back({{"name", node.name}, {"port", node.port}});
    }
    PrintJson({{"host", host}, {"port", port}, {"nodes", nodes}});
    return 0;
  }
  std::printf("%-32s %5s\n", "NAME", "PORT");
  for (const Client::NamedPort& node : *names) {
    std::printf("%-32s %5u\n", Printable(node.name).c_str(), unsigned{node.port});
  }
  return 0;
}

}  // namespace evermap
