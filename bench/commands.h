// The commands of epmd-bench. Each measures, prints, and returns the exit code: 0, or 1 when
// something failed or a reply was wrong.
#ifndef EVERMAP_BENCH_COMMANDS_H_
#define EVERMAP_BENCH_COMMANDS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/load/schedule.h"
#include "bench/load/traffic.h"
#include "bench/measure/suite.h"

namespace evermap::bench {

struct OutputSettings {
  bool json = false;        // instead of a table, on standard output
  std::string report = {};  // path of an HTML page to write; empty: none
  bool quiet = false;       // no progress line
};

// A workload against a server that runs already, or against two of them in turn.
struct WorkloadSettings {
  std::string command = {};  // "lookup", ...
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

int RunWorkload(const WorkloadSettings& settings, const OutputSettings& output);

// Two programs, which are started anew for each number of nodes.
struct CompareSettings {
  std::string stock = {};
  std::string ours = {};
  std::vector<std::string> ours_arguments = {};
  std::string workload = "lookup";  // or "names", "register"
  std::vector<size_t> nodes = {100, 500, 900};
  uint32_t rounds = 5;
  uint32_t connections = 8;
  double seconds = 1;
  int server_core = 0;
  int load_core = 1;
};

int RunCompare(const CompareSettings& settings, const OutputSettings& output);

int RunSuiteCommand(SuiteOptions options, const OutputSettings& output);

int RunFloor(const std::string& address, uint16_t port);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_COMMANDS_H_
