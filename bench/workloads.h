// The workloads of epmd-bench, one row each: a new one is a row of Workloads().
//
//   epmd-bench WORKLOAD --nodes 1000 ...       a subcommand each, with the options of its row
//   epmd-bench compare --workload WORKLOAD     those that are compared
//
// A workload that is made of other kinds of requests needs these first (load/request_kind.h); one
// that runs in another way than a load, a storm and a restart do, a branch of RunWorkload()
// (commands.h).
#ifndef EVERMAP_BENCH_WORKLOADS_H_
#define EVERMAP_BENCH_WORKLOADS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/load/schedule.h"
#include "bench/load/traffic.h"

namespace evermap::bench {

// What a workload does. A row has what it does without options; the command line changes it.
struct WorkloadSettings {
  std::string command = {};  // the subcommand: "lookup", ...
  std::string address = "127.0.0.1";
  uint16_t port = 4369;
  std::vector<std::string> compare = {};  // two of ADDRESS:PORT; empty: only the one above
  std::vector<pid_t> pids = {};           // of the servers, where they are known
  uint32_t rounds = 5;                    // of a comparison

  Mix mix{.known = 1};
  size_t nodes = 100;       // registered before the load, or, in a storm, by it
  std::string prefix = {};  // of all names; empty: one with the process's number
  uint32_t names_per_connection = 16;
  size_t idle = 0;  // connections that say nothing, in the background

  uint32_t connections = 8;
  uint32_t threads = 1;
  std::vector<int> cores = {};
  double rate_per_s = 0;
  Arrivals arrivals = Arrivals::kEven;
  uint32_t burst = 1;
  double warm_up_s = 0.2;
  double seconds = 3;
  double timeout_s = 10;
  uint32_t sources = 1;
  bool is_storm = false;

  // For a restart only.
  std::string restart_command = {};
  double restart_after_s = 1;
  bool nodes_register_again = true;
};

// Options that only some workloads have, each group of them for one or more.
enum class OwnOptions : uint8_t {
  kNone,
  kUnknownShare,        // --unknown
  kNamesPerConnection,  // --names-per-connection
  kStormNodes,          // --nodes, in place of those of a load
  kShares,              // --known, --unknown, --names, --register
  kBurst,               // --burst
  kRestart,             // --command, --after, --old-nodes
};

struct Workload {
  WorkloadSettings settings;
  std::string_view help;
  OwnOptions own_options = OwnOptions::kNone;
  bool has_compare = true;   // --compare: two servers in turn
  bool is_compared = false;  // of `epmd-bench compare`, which starts the servers
};

// In the order of `epmd-bench --help`.
std::vector<Workload> Workloads();

// The settings of a workload that is compared; nothing: there is none of that name.
std::optional<WorkloadSettings> SettingsOfCompared(std::string_view name);
// The names of those that are compared, for a message: "a, b or c".
std::string NamesOfCompared();

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_WORKLOADS_H_
