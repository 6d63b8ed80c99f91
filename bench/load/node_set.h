// Nodes that the bench registers with a mapper and holds registered: what is looked up.
#ifndef EVERMAP_BENCH_LOAD_NODE_SET_H_
#define EVERMAP_BENCH_LOAD_NODE_SET_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/load/endpoint.h"
#include "daemon/wire/client.h"

namespace evermap::bench {

class NodeSet {
 public:
  struct Node {
    std::string name;
    uint16_t port = 0;
    std::optional<RegisteredNode> registration;  // for as long as it is registered
  };

  // Registers `count` nodes named `prefix`1, `prefix`2, ... with different ports (from 10,000
  // nodes on some share one). Errors as Client::Register().
  static absl::StatusOr<NodeSet> Register(const Endpoint& endpoint, const std::string& prefix,
                                          size_t count);

  // Registers `node`, which has a name and a port.
  static absl::Status RegisterOne(const Endpoint& endpoint, Node& node);

  const std::vector<Node>& nodes() const { return nodes_; }
  std::vector<Node>& nodes() { return nodes_; }

 private:
  std::vector<Node> nodes_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_NODE_SET_H_
