#include "bench/measure/summary.h"

#include <gtest/gtest.h>

namespace evermap::bench {
namespace {

TEST(Summary, OfNothingIsZero) {
  EXPECT_EQ(SpreadOf({}).median, 0);
  EXPECT_EQ(RatioOf({1}, {}).median, 0);
}

TEST(Summary, MedianAndQuartiles) {
  const Spread odd = SpreadOf({5, 1, 4, 2, 3});
  EXPECT_DOUBLE_EQ(odd.median, 3);
  EXPECT_DOUBLE_EQ(odd.low, 2);
  EXPECT_DOUBLE_EQ(odd.high, 4);
  EXPECT_DOUBLE_EQ(SpreadOf({1, 2}).median, 1.5);
  EXPECT_DOUBLE_EQ(SpreadOf({7}).high, 7);
}

// A machine that is slower for a round is so for both servers.
TEST(Summary, RatiosAreOfTheSameRound) {
  const Spread ratio = RatioOf({1, 10, 2}, {2, 20, 4});
  EXPECT_DOUBLE_EQ(ratio.median, 0.5);
  EXPECT_DOUBLE_EQ(ratio.low, 0.5);
  EXPECT_DOUBLE_EQ(ratio.high, 0.5);
}

TEST(Summary, RoundsWithoutAReferenceAreLeftOut) {
  EXPECT_EQ(Ratios({1, 2, 3}, {0, 4}).size(), 1u);
}

}  // namespace
}  // namespace evermap::bench
