#include "bench/measure/summary.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>

namespace evermap::bench {
namespace {

// The quantile at `share`, interpolated between the two values next to it.
// REQUIRES: `sorted` is sorted and not empty; 0 <= share <= 1.
double Quantile(const std::vector<double>& sorted, double share) {
  assert(!sorted.empty() && std::is_sorted(sorted.begin(), sorted.end()));
  assert(share >= 0 && share <= 1);
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(std::floor(place));
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double rest = place - std::floor(place);
  return sorted[below] * (1 - rest) + sorted[above] * rest;
}

}  // namespace

Spread SpreadOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {.median = Quantile(values, 0.5),
          .low = Quantile(values, 0.25),
          .high = Quantile(values, 0.75)};
}

std::vector<double> Ratios(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (b[i] != 0) ratios.push_back(a[i] / b[i]);
  }
  return ratios;
}

Spread RatioOf(const std::vector<double>& a, const std::vector<double>& b) {
  return SpreadOf(Ratios(a, b));
}

}  // namespace evermap::bench
