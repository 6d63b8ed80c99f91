#include "bench/load/node_set.h"

#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "bench/load/source_addresses.h"

namespace evermap::bench {
namespace {

constexpr uint16_t kNodePortFirst = 20000;
constexpr size_t kPorts = 10000;
constexpr absl::Duration kTimeout = absl::Seconds(10);
// Nodes come from 127.64.X.1, each X with as many as the others. Were they all of 127.0.0.1, every
// connection of a load from there would first be a search for a port that none of them has: with
// 19,000 nodes for up to 2 ms.
constexpr uint32_t kNodeBase = 0x7f400000;
constexpr uint32_t kNodeSources = 250;

// A connection that has been begun; none where the sources cannot be chosen, or none can be made.
std::optional<TcpConnection> StartConnecting(const Endpoint& endpoint, uint16_t node_port) {
  if (!endpoint.IsLoopback4()) return std::nullopt;
  TcpConnection connection(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const uint32_t base = kNodeBase + (node_port % kNodeSources << 8);
  if (connection.fd() < 0 ||
      SourceAddresses(endpoint, {.count = 1, .base = base}).StartConnecting(connection.fd()) != 0) {
    return std::nullopt;
  }
  return connection;
}

}  // namespace

absl::Status NodeSet::RegisterOne(const Endpoint& endpoint, Node& node) {
  const Client client(endpoint.host(), endpoint.port(), {.timeout = kTimeout});
  const protocol::NodeDescription description = {.port = node.port, .name = node.name};
  std::optional<TcpConnection> connection = StartConnecting(endpoint, node.port);
  absl::StatusOr<RegisteredNode> registered =
      connection.has_value() ? client.RegisterOver(*std::move(connection), description)
                             : client.Register(description);
  if (absl::IsAlreadyExists(registered.status())) {
    return absl::AlreadyExistsError(
        absl::StrCat(registered.status().message(),
                     "; is it registered by another bench? Try another --prefix"));
  }
  if (!registered.ok()) return registered.status();
  node.registration = *std::move(registered);
  return absl::OkStatus();
}

absl::StatusOr<NodeSet> NodeSet::Register(const Endpoint& endpoint, const std::string& prefix,
                                          size_t count) {
  NodeSet set;
  set.nodes_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    Node& node = set.nodes_[i];
    node.name = absl::StrCat(prefix, i + 1);
    node.port = static_cast<uint16_t>(kNodePortFirst + i % kPorts);
    const absl::Status status = RegisterOne(endpoint, node);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("node ", i + 1, " of ", count, ": ", status.message()));
    }
  }
  return set;
}

}  // namespace evermap::bench
