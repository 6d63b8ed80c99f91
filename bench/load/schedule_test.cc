#include "bench/load/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace evermap::bench {
namespace {

std::vector<int64_t> Take(Schedule& schedule, int count) {
  std::vector<int64_t> times;
  for (int i = 0; i < count; ++i) {
    times.push_back(schedule.NextNs());
    schedule.Advance();
  }
  return times;
}

TEST(Schedule, EvenArrivalsAreAtEqualDistances) {
  Schedule schedule({.rate_per_s = 1000});
  EXPECT_EQ(Take(schedule, 4), (std::vector<int64_t>{0, 1'000'000, 2'000'000, 3'000'000}));
}

TEST(Schedule, EvenArrivalsDoNotDrift) {
  Schedule schedule({.rate_per_s = 30'000});
  EXPECT_EQ(Take(schedule, 3'000'001).back(), int64_t{100'000'000'000});
}

TEST(Schedule, PartsTogetherAreTheWhole) {
  Schedule whole({.rate_per_s = 700});
  std::vector<int64_t> merged;
  for (uint32_t part = 0; part < 3; ++part) {
    Schedule schedule({.rate_per_s = 700, .part = part, .parts = 3});
    for (const int64_t time : Take(schedule, 100)) merged.push_back(time);
  }
  std::sort(merged.begin(), merged.end());
  EXPECT_EQ(merged, Take(whole, 300));
}

TEST(Schedule, BurstsStartTogetherAndKeepTheRate) {
  Schedule schedule({.rate_per_s = 1000, .burst = 3});
  EXPECT_EQ(Take(schedule, 7),
            (std::vector<int64_t>{0, 0, 0, 3'000'000, 3'000'000, 3'000'000, 6'000'000}));
}

TEST(Schedule, PartsOfABurstStartTogether) {
  std::vector<int64_t> merged;
  for (uint32_t part = 0; part < 2; ++part) {
    Schedule schedule({.rate_per_s = 1000, .burst = 4, .part = part, .parts = 2});
    for (const int64_t time : Take(schedule, 4)) merged.push_back(time);
  }
  std::sort(merged.begin(), merged.end());
  EXPECT_EQ(merged, (std::vector<int64_t>{0, 0, 0, 0, 4'000'000, 4'000'000, 4'000'000, 4'000'000}));
}

TEST(Schedule, PoissonArrivalsRiseAndHaveTheRate) {
  Schedule schedule({.rate_per_s = 1000, .arrivals = Arrivals::kPoisson});
  const std::vector<int64_t> times = Take(schedule, 100'000);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  // The sum of n exponential pauses has a standard deviation of 1/sqrt(n) of itself: 0.3 %.
  EXPECT_NEAR(static_cast<double>(times.back()) / 1e9, 100, 2);
}

TEST(Schedule, PartsOfPoissonArrivalsDiffer) {
  Schedule first({.rate_per_s = 10, .arrivals = Arrivals::kPoisson, .part = 0, .parts = 2});
  Schedule second({.rate_per_s = 10, .arrivals = Arrivals::kPoisson, .part = 1, .parts = 2});
  EXPECT_NE(first.NextNs(), second.NextNs());
}

}  // namespace
}  // namespace evermap::bench
