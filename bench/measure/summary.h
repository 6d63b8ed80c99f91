// What many rounds of a measurement come to.
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

// `a` and `b` by round; rounds that were measured one after the other share what the machine did
// meanwhile, so that it falls out of their ratio. Rounds that only one has are left out, and those
// where `b` is 0.
std::vector<double> Ratios(const std::vector<double>& a, const std::vector<double>& b);
Spread RatioOf(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_SUMMARY_H_
