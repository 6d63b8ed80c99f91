// The project's benchmark: the stock epmd, ours and the floor side by side, held against the
// budgets that the project has set itself.
//
// Servers run on one core and the load on another. What is compared is measured in rounds that
// alternate, and the ratio is that of neighbouring rounds.
#ifndef EVERMAP_BENCH_MEASURE_SUITE_H_
#define EVERMAP_BENCH_MEASURE_SUITE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/measure/summary.h"

namespace evermap::bench {

struct SuiteOptions {
  std::string stock = {};  // programs
  std::string ours = {};
  std::vector<std::string> ours_arguments = {};  // "-loop", "epoll"
  int server_core = 0;
  int load_core = 1;
  uint32_t rounds = 9;
  absl::Duration round = absl::Milliseconds(500);
  // Shows that all of it works, with a tenth of the nodes and rounds too short to measure anything.
  bool quick = false;
  // Told what is measured next.
  std::function<void(const std::string&)> on_step = {};
};

// A line of the budget table.
struct Budget {
  std::string id = {};    // the same in every run: "lookup_cpu_stock_100"
  std::string what = {};  // for people
  double limit = 0;
  bool is_minimum = false;           // measured must be at least, not at most, the limit
  std::string unit = {};             // nothing for a ratio
  std::vector<double> samples = {};  // one per round
  std::string note = {};             // why there is no measurement; such a line is not met

  Spread measured() const { return SpreadOf(samples); }
  bool IsMet() const;
};

// Costs of one server with some number of nodes: what the ratios were made of.
struct Cost {
  std::string server = {};   // "stock", "ours", "floor"
  std::string request = {};  // "lookup", "names", "register"
  size_t nodes = 0;
  uint32_t connections = 0;
  std::vector<double> cpu_us = {};  // by round
  std::vector<double> p50_us;
};

struct SuiteResult {
  std::vector<Budget> budgets;
  std::vector<Cost> costs;
  uint64_t requests = 0;
  uint64_t wrong = 0;  // replies
};

absl::StatusOr<SuiteResult> RunSuite(const SuiteOptions& options);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_SUITE_H_
