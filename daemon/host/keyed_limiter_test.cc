#include "daemon/host/keyed_limiter.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace evermap {
namespace {

TEST(KeyedLimiterTest, TellsTheFirstEventOfEachKey) {
  KeyedLimiter limiter;
  uint64_t suppressed = 0;
  EXPECT_TRUE(limiter.WouldAllow("a"));
  EXPECT_TRUE(limiter.Allow("a", suppressed));
  EXPECT_EQ(suppressed, 0u);
  EXPECT_FALSE(limiter.WouldAllow("a"));
  EXPECT_FALSE(limiter.Allow("a", suppressed));
  EXPECT_TRUE(limiter.Allow("b", suppressed));
  EXPECT_FALSE(limiter.Allow("b", suppressed));
}

TEST(KeyedLimiterTest, TellsNoMoreThanItHasPlaces) {
  KeyedLimiter limiter;
  uint64_t suppressed = 0;
  size_t told = 0;
  for (int i = 0; i < 100'000; ++i) {
    if (limiter.Allow("node" + std::to_string(i), suppressed)) ++told;
  }
  EXPECT_GT(told, KeyedLimiter::kKeysMax / 2);
  EXPECT_LE(told, KeyedLimiter::kKeysMax);
}

}  // namespace
}  // namespace evermap
