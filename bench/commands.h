// The commands of epmd-bench. Each measures, prints, and returns the exit code: 0, or 1 when
// something failed or a reply was wrong.
#ifndef EVERMAP_BENCH_COMMANDS_H_
#define EVERMAP_BENCH_COMMANDS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/measure/mesh.h"
#include "bench/measure/suite.h"
#include "bench/workloads.h"

namespace evermap::bench {

struct OutputSettings {
  bool json = false;        // instead of a table, on standard output
  std::string report = {};  // path of an HTML page to write; empty: none
  bool quiet = false;       // no progress line
};

// Measures a workload (workloads.h) against a server that runs already, or two of them in turn.
int RunWorkload(const WorkloadSettings& settings, const OutputSettings& output);

// Two programs, which are started anew for each number of nodes.
struct CompareSettings {
  std::string stock = {};
  std::string ours = {};
  std::vector<std::string> ours_arguments = {};
  std::string workload = "lookup";  // one of NamesOfCompared()
  std::vector<size_t> nodes = {100, 500, 900};
  uint32_t rounds = 5;
  uint32_t connections = 8;
  double seconds = 1;
  int server_core = 0;
  int load_core = 1;
};

int RunCompare(const CompareSettings& settings, const OutputSettings& output);

// Two programs, each with Erlang nodes of its own.
struct MeshSettings {
  std::string stock = {};
  std::string ours = {};
  std::vector<std::string> ours_arguments = {};
  MeshOptions mesh = {};
  uint32_t rounds = 5;
};

int RunMesh(const MeshSettings& settings, const OutputSettings& output);

int RunSuiteCommand(SuiteOptions options, const OutputSettings& output);

int RunFloor(const std::string& address, uint16_t port);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_COMMANDS_H_
