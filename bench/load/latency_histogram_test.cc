#include "bench/load/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace evermap::bench {
namespace {

TEST(LatencyHistogram, IsZeroWhenEmpty) {
  const LatencyHistogram none;
  EXPECT_EQ(none.count(), 0u);
  EXPECT_EQ(none.max_ns(), 0u);
  EXPECT_EQ(none.PercentileNs(50), 0u);
  EXPECT_TRUE(none.NonEmptyBuckets().empty());
}

TEST(LatencyHistogram, IsExactBelow128Ns) {
  LatencyHistogram latencies;
  for (uint64_t ns = 1; ns <= 100; ++ns) latencies.Add(ns);
  EXPECT_EQ(latencies.PercentileNs(0), 1u);
  EXPECT_EQ(latencies.PercentileNs(50), 50u);
  EXPECT_EQ(latencies.PercentileNs(99), 99u);
  EXPECT_EQ(latencies.PercentileNs(100), 100u);
}

// Against the sorted values themselves, over all sizes a latency has.
TEST(LatencyHistogram, PercentilesAreGoodTo08Percent) {
  std::mt19937_64 random(1);
  LatencyHistogram latencies;
  std::vector<uint64_t> all;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t ns = random() >> (26 + random() % 38);
    all.push_back(ns);
    latencies.Add(ns);
  }
  std::sort(all.begin(), all.end());
  for (const double percent : {1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99}) {
    const auto rank = static_cast<size_t>(std::ceil(percent / 100 * 100'000));
    const auto exact = static_cast<double>(all[rank - 1]);
    const auto found = static_cast<double>(latencies.PercentileNs(percent));
    EXPECT_GE(found, exact) << percent;
    EXPECT_LE(found, exact * 1.008 + 1) << percent;
  }
  EXPECT_EQ(latencies.max_ns(), all.back());
  EXPECT_EQ(latencies.PercentileNs(100), all.back());
}

TEST(LatencyHistogram, LatenciesBeyondTheLastBucketKeepTheirMaximum) {
  LatencyHistogram latencies;
  latencies.Add(UINT64_MAX);
  EXPECT_EQ(latencies.PercentileNs(50), UINT64_MAX);
}

TEST(LatencyHistogram, MergedIsAsIfAllWereAddedToOne) {
  std::mt19937_64 random(2);
  LatencyHistogram one;
  LatencyHistogram other;
  LatencyHistogram both;
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t ns = random() % 1'000'000;
    (i % 3 == 0 ? one : other).Add(ns);
    both.Add(ns);
  }
  one.Merge(other);
  EXPECT_EQ(one.count(), both.count());
  EXPECT_EQ(one.max_ns(), both.max_ns());
  for (const double percent : {0.0, 50.0, 99.9, 100.0}) {
    EXPECT_EQ(one.PercentileNs(percent), both.PercentileNs(percent));
  }
}

TEST(LatencyHistogram, BucketsRiseAndHoldAll) {
  LatencyHistogram latencies;
  for (const uint64_t ns : {5u, 5u, 1000u, 250'000u}) latencies.Add(ns);
  const std::vector<LatencyHistogram::Bucket> buckets = latencies.NonEmptyBuckets();
  ASSERT_EQ(buckets.size(), 3u);
  EXPECT_EQ(buckets[0].largest_ns, 5u);
  EXPECT_EQ(buckets[0].count, 2u);
  EXPECT_GE(buckets[1].largest_ns, 1000u);
  EXPECT_GT(buckets[2].largest_ns, buckets[1].largest_ns);
}

}  // namespace
}  // namespace evermap::bench
