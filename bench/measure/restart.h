// What nodes and their clients notice of a restart or an upgrade of the mapper, measured by a load
// of lookups while a command does it.
#ifndef EVERMAP_BENCH_MEASURE_RESTART_H_
#define EVERMAP_BENCH_MEASURE_RESTART_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/endpoint.h"
#include "bench/load/load.h"
#include "bench/load/node_keeper.h"
#include "bench/load/node_set.h"
#include "bench/load/traffic.h"

namespace evermap::bench {

struct RestartOptions {
  LoadOptions load;
  // Restarts the mapper and returns an exit code. Called `act_after` the measurement began, in a
  // thread of its own.
  std::function<int()> act;
  absl::Duration act_after = absl::Seconds(1);
  bool nodes_register_again = true;  // see NodeKeeper
};

struct RestartResult {
  LoadResult load;
  int exit_code = 0;         // of the act
  absl::Duration act_begin;  // since the beginning of the load
  absl::Duration act_end;
  NodeKeeper::Counts nodes;
  // Nodes that a lookup after the load did not find, or found with other values.
  uint64_t registrations_lost = 0;

  // The longest time between two correct replies.
  absl::Duration gap() const { return absl::Nanoseconds(load.gap.length_ns()); }
};

// A command line for `act`: 127 when it could not be run, 128 and more when a signal ended it.
int RunShellCommand(const std::string& command);

absl::StatusOr<RestartResult> RunRestart(const Endpoint& endpoint, NodeSet& nodes,
                                         const Traffic& traffic, const RestartOptions& options);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_RESTART_H_
