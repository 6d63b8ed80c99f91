// Several servers under the same load, in turn.
//
//   Contestant stock{.label = "stock", .endpoint = ..., .traffic = ..., .load = {...}};
//   Contestant ours{...};
//   absl::Status status = RunRounds({&stock, &ours}, 9);
//   Spread ratio = RatioOf(ours.rounds.of(Metric::kCpuUs), stock.rounds.of(Metric::kCpuUs));
#ifndef EVERMAP_BENCH_MEASURE_COMPARISON_H_
#define EVERMAP_BENCH_MEASURE_COMPARISON_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "bench/load/endpoint.h"
#include "bench/load/load.h"
#include "bench/load/outcome.h"
#include "bench/load/traffic.h"

namespace evermap::bench {

// A figure of one round.
enum class Metric : uint8_t {
  kCpuUs,      // server CPU per request; only where its process is known
  kPerSecond,  // correct replies
  kP50Us,
  kP99Us,
  kP999Us,
  kMaxUs,
  kAllMs,  // until the last request ended, which is what counts in a storm
};
inline constexpr size_t kMetrics = 7;
std::string_view MetricName(Metric metric);   // "cpu_us"
std::string_view MetricTitle(Metric metric);  // "server CPU per request, us"

class Rounds {
 public:
  void Add(const LoadResult& result);
  // One value for each round; none where it was not measured.
  const std::vector<double>& of(Metric metric) const {
    return values_[static_cast<size_t>(metric)];
  }

 private:
  std::array<std::vector<double>, kMetrics> values_;
};

struct Contestant {
  std::string label;
  const Endpoint* endpoint = nullptr;
  const Traffic* traffic = nullptr;
  LoadOptions load;

  Rounds rounds;
  OutcomeCounts outcomes;      // of all rounds
  LatencyHistogram latencies;  // of all rounds
};

// Measures all contestants in each round. Every second round is made in reverse order, so that no
// contestant always comes first. Wrong replies do not end it: the caller looks at `outcomes`.
// `on_round` is called with the number of rounds that are done.
absl::Status RunRounds(absl::Span<Contestant* const> contestants, uint32_t rounds,
                       const std::function<void(uint32_t)>& on_round = nullptr);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_COMPARISON_H_
