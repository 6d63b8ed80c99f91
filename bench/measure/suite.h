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
  // Only shows that everything works: a tenth of the nodes, and rounds too short to measure
  // anything.
  bool quick = false;
  // Called with what is measured next, for a progress line.
  std::function<void(const std::string&)> on_step = {};
};

// A line of the budget table.
struct Budget {
  std::string id = {};    // the same in every run: "lookup_cpu_stock_100"
  std::string what = {};  // for people
  double limit = 0;
  bool is_minimum = false;           // the limit is the least, not the most, that is allowed
  std::string unit = {};             // nothing for a ratio
  std::vector<double> samples = {};  // one per round
  std::string note = {};             // why there is no measurement; such a budget is not met

  Spread measured() const { return SpreadOf(samples); }
  bool IsMet() const;
};

// Costs of one server with a number of nodes, from which the ratios of the budgets were made.
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
