// Real Erlang nodes that form a full mesh: all of them connect to all others at the same moment, and
// each asks the mapper for each. This is what a cluster does when its hosts have power again.
//
//   absl::StatusOr<std::unique_ptr<Mesh>> mesh = Mesh::Start(**server, {.nodes = 20});
//   if (!mesh.ok()) return mesh.status();
//   absl::StatusOr<MeshCost> cost = (*mesh)->Form();     // and once more: (*mesh)->Part() first
//
// Nodes connect to those that they are told to and to no others (-connect_all false), so that each
// pair is found by lookups, and none by what a third node tells. Not thread-safe.
#ifndef EVERMAP_BENCH_MEASURE_MESH_H_
#define EVERMAP_BENCH_MEASURE_MESH_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "bench/measure/child_process.h"
#include "bench/measure/started_server.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

// A node takes some 30 MiB of memory.
inline constexpr size_t kMeshNodesMax = 1000;

struct MeshOptions {
  std::string erl = "erl";  // a program, by path or found in PATH
  size_t nodes = 20;        // 2 to kMeshNodesMax
};

// What it took until each node was connected to each other one.
struct MeshCost {
  double all_ms = 0;
  double mapper_cpu_ms = 0;
  double host_cpu_ms = 0;  // of all processes of the host, in user space and in the kernel
};

// A figure of MeshCost.
struct MeshMetric {
  std::string_view name;   // "all_ms"
  std::string_view title;  // "all connected after, ms"
  double MeshCost::*value;
};
inline constexpr std::array<MeshMetric, 3> kMeshMetrics = {
    {{.name = "all_ms", .title = "all connected after, ms", .value = &MeshCost::all_ms},
     {.name = "mapper_cpu_ms", .title = "CPU of the mapper, ms", .value = &MeshCost::mapper_cpu_ms},
     {.name = "host_cpu_ms", .title = "CPU of the host, ms", .value = &MeshCost::host_cpu_ms}}};
std::vector<double> ValuesOf(const MeshMetric& metric, const std::vector<MeshCost>& costs);

class Mesh {
 public:
  // Starts the nodes and returns when all of them are registered. The server outlives this object.
  // kUnavailable, with what a node has said, when one does not start within kNodeTimeout.
  static absl::StatusOr<std::unique_ptr<Mesh>> Start(const StartedServer& server,
                                                     const MeshOptions& options);
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;
  ~Mesh();

  // REQUIRES: no node is connected to another one.
  absl::StatusOr<MeshCost> Form();
  // Disconnects all nodes from each other.
  absl::Status Part();

  static constexpr absl::Duration kNodeTimeout = absl::Seconds(120);

 private:
  struct Node {
    ChildProcess process;
    // A socket. Lines to the node are "connect" and "part"; the node says a line when it is
    // registered, and one when it has done what it was told. It ends when this is closed.
    OwnedFd lines;
  };

  Mesh(pid_t server_pid, std::string directory)
      : server_pid_(server_pid), directory_(std::move(directory)) {}
  absl::Status StartNode(const StartedServer& server, const MeshOptions& options, size_t number);
  // Sends a line to all nodes, and returns when all of them have answered.
  absl::Status Tell(std::string_view line);
  absl::Status AwaitAnswers();

  const pid_t server_pid_;
  const std::string directory_;  // home of the nodes
  std::vector<Node> nodes_;
};

// Several meshes in turn: each is formed and parted in each round, every second round in reverse
// order. The costs by mesh, one for each round.
absl::StatusOr<std::vector<std::vector<MeshCost>>> RunMeshRounds(
    absl::Span<const std::unique_ptr<Mesh>> meshes, size_t rounds);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_MESH_H_
