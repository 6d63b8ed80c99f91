#include "bench/load/node_set.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace evermap::bench {
namespace {

constexpr uint16_t kNodePortFirst = 20000;
constexpr size_t kPorts = 10000;
constexpr absl::Duration kTimeout = absl::Seconds(10);

}  // namespace

absl::Status NodeSet::RegisterOne(const Endpoint& endpoint, Node& node) {
  const Client client(endpoint.host(), endpoint.port(), {.timeout = kTimeout});
  absl::StatusOr<RegisteredNode> registered =
      client.Register({.port = node.port, .name = node.name});
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
