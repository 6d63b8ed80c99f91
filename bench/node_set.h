// Nodes that the bench registers with a mapper and holds registered: what is looked up.
#ifndef EVERMAP_BENCH_NODE_SET_H_
#define EVERMAP_BENCH_NODE_SET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/endpoint.h"

namespace evermap::bench {

class NodeSet {
 public:
  struct Node {
    std::string name;
    uint16_t port = 0;
    UniqueFd connection;  // the node is registered for as long as this is open
  };

  // Registers `count` nodes named `prefix`1, `prefix`2, ... with different ports (from 10,000
  // nodes on some share one). kAlreadyExists when the mapper refuses one, kUnavailable when it
  // closes the connection instead of answering or does not answer for kReplyTimeoutS.
  static absl::StatusOr<NodeSet> Register(const Endpoint& endpoint, const std::string& prefix,
                                          size_t count);

  const std::vector<Node>& nodes() const { return nodes_; }

  static constexpr int kReplyTimeoutS = 10;

 private:
  std::vector<Node> nodes_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_NODE_SET_H_
