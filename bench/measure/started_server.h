// A server that the bench has started for itself, with nodes registered.
//
//   absl::StatusOr<std::unique_ptr<StartedServer>> server =
//       StartedServer::Start({.label = "ours", .program = "build/daemon/epmd", .kind = kOurs},
//       500);
#ifndef EVERMAP_BENCH_MEASURE_STARTED_SERVER_H_
#define EVERMAP_BENCH_MEASURE_STARTED_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/load/endpoint.h"
#include "bench/load/node_set.h"
#include "bench/load/traffic.h"
#include "bench/measure/comparison.h"
#include "bench/measure/server_process.h"

namespace evermap::bench {

enum class ServerKind : uint8_t {
  kAnyMapper,  // understands epmd's own options
  kEvermap,    // gets a registry of its own
  kFloor,      // this program
};

struct ServerProgram {
  std::string label = {};
  std::string program = {};  // nothing for the floor
  ServerKind kind = ServerKind::kAnyMapper;
  std::vector<std::string> arguments = {};  // beside those that the bench gives
  int core = kAnyCore;
};

class StartedServer {
 public:
  // On a free port of 127.0.0.1, with files in a directory of its own in /tmp that goes with it.
  static absl::StatusOr<std::unique_ptr<StartedServer>> Start(const ServerProgram& program,
                                                              size_t nodes);
  ~StartedServer();
  StartedServer(const StartedServer&) = delete;
  StartedServer& operator=(const StartedServer&) = delete;

  const std::string& label() const { return label_; }
  const Endpoint& endpoint() const { return endpoint_; }
  NodeSet& nodes() { return nodes_; }
  pid_t pid() const { return process_->pid(); }
  std::string registry_path() const { return directory_ + "/registry"; }  // kEvermap

  // Takes part with `load` and `mix`. REQUIRES: not called again while the contestant is used.
  Contestant& Enter(const Mix& mix, const LoadOptions& load);
  const Traffic& traffic() const { return *traffic_; }  // after Enter()

 private:
  StartedServer(std::string label, Endpoint endpoint, std::string directory)
      : label_(std::move(label)),
        endpoint_(std::move(endpoint)),
        directory_(std::move(directory)) {}

  std::string label_;
  Endpoint endpoint_;
  std::string directory_;
  std::unique_ptr<ServerProcess> process_;
  NodeSet nodes_;
  std::unique_ptr<Traffic> traffic_;
  Contestant contestant_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_STARTED_SERVER_H_
