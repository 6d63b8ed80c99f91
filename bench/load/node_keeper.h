// What nodes do when their mapper goes away: a node whose connection ends registers again two
// seconds later, and until it succeeds, every two seconds, as nodes of OTP 24 and later do. Older
// ones never do.
#ifndef EVERMAP_BENCH_LOAD_NODE_KEEPER_H_
#define EVERMAP_BENCH_LOAD_NODE_KEEPER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "bench/load/endpoint.h"
#include "bench/load/node_set.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

// Watches the connections of nodes from its construction until Finish(), in a thread of its own.
// Changes their registrations only, so that others may read their names and ports meanwhile.
class NodeKeeper {
 public:
  static constexpr absl::Duration kReconnectAfter = absl::Seconds(2);

  struct Counts {
    uint64_t connections_lost = 0;
    uint64_t registered_again = 0;
    uint64_t creations_changed = 0;  // of those registered again
  };

  // REQUIRES: both outlive this object.
  NodeKeeper(const Endpoint& endpoint, NodeSet& nodes, bool registers_again);
  ~NodeKeeper();
  NodeKeeper(const NodeKeeper&) = delete;
  NodeKeeper& operator=(const NodeKeeper&) = delete;

  // Ends the watch. May be called again, with the same result.
  Counts Finish();

 private:
  struct Gone {
    size_t node;
    uint32_t creation;
    int64_t again_ns;
  };

  void Run();
  void NoticeEnds();
  void RegisterAgain();

  const Endpoint& endpoint_;
  NodeSet& nodes_;
  const bool registers_again_;
  OwnedFd epoll_;
  std::vector<Gone> gone_;
  Counts counts_;
  std::atomic<bool> finish_ = false;
  std::thread thread_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_NODE_KEEPER_H_
