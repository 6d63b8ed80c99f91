// Statistics over the rounds of a measurement.
//
//   Spread cpu = SpreadOf({8.9, 9.1, 12.0});     // median 9.1, quartiles 9.0 and 10.55
//   Spread ratio = RatioOf(ours, stock);         // of each round, then the median of those
#ifndef EVERMAP_BENCH_MEASURE_SUMMARY_H_
#define EVERMAP_BENCH_MEASURE_SUMMARY_H_

#include <vector>

namespace evermap::bench {

// All 0 when there was no round.
struct Spread {
  double median = 0;
  double low = 0;   // lower quartile
  double high = 0;  // upper quartile
};

Spread SpreadOf(std::vector<double> values);

// The ratio of `a` to `b` in each round. The two of a round are measured one after the other, so
// that a disturbance of the machine affects both and cancels out. Rounds that only one of them has,
// and those where `b` is 0, are left out.
std::vector<double> Ratios(const std::vector<double>& a, const std::vector<double>& b);
Spread RatioOf(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_SUMMARY_H_
