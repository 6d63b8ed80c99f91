// A server that the bench has started for itself, with nodes registered.
//
//   const ServerProgram ours{
//       .label = "ours", .program = "build/daemon/epmd", .kind = ServerKind::kEvermap};
//   absl::StatusOr<std::unique_ptr<StartedServer>> server = StartedServer::Start(ours, 500);
//   if (!server.ok()) return server.status();
//   Contestant& side = (*server)->Enter({.known = 1}, load);
#ifndef EVERMAP_BENCH_MEASURE_STARTED_SERVER_H_
#define EVERMAP_BENCH_MEASURE_STARTED_SERVER_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/load/endpoint.h"
#include "bench/load/node_set.h"
#include "bench/load/traffic.h"
#include "bench/measure/child_process.h"
#include "bench/measure/comparison.h"

namespace evermap::bench {

enum class ServerKind : uint8_t {
  kAnyMapper,  // takes the options of the stock epmd
  kEvermap,    // takes those and -registry; gets a registry of its own
  kFloor,      // the floor (floor_server.h), served by this program
};

struct ServerProgram {
  std::string label = {};
  std::string program = {};  // path; not used for the floor
  ServerKind kind = ServerKind::kAnyMapper;
  std::vector<std::string> arguments = {};  // beside those that the bench gives
  int core = kAnyCore;
};

class StartedServer {
 public:
  // Starts the server on a free port of 127.0.0.1 and registers `nodes` nodes. Its files are in a
  // directory in /tmp that is removed with this object.
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

  // Makes this server a contestant under `load` with `mix`. The contestant is part of this object
  // and is replaced by the next call. REQUIRES: mix.known is 0 if no nodes were registered.
  Contestant& Enter(const Mix& mix, const LoadOptions& load);
  // REQUIRES: Enter() was called.
  const Traffic& traffic() const {
    assert(traffic_ != nullptr);
    return *traffic_;
  }

 private:
  StartedServer(std::string label, Endpoint endpoint, std::string directory)
      : label_(std::move(label)),
        endpoint_(std::move(endpoint)),
        directory_(std::move(directory)) {}

  std::string label_;
  Endpoint endpoint_;
  std::string directory_;
  std::unique_ptr<ChildProcess> process_;
  NodeSet nodes_;
  std::unique_ptr<Traffic> traffic_;
  Contestant contestant_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_STARTED_SERVER_H_
