#include "daemon/store_queue.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace evermap {
namespace {

using Stored = std::vector<std::pair<uint32_t, uint64_t>>;

// Everything from `now_ms` on that is stored within `ticks`.
Stored StoredWithin(StoreQueue& queue, int64_t now_ms, int ticks, size_t held) {
  Stored stored;
  for (int i = 0; i < ticks; ++i) {
    queue.Store(now_ms + i * StoreQueue::kTickMs, held + stored.size(),
                [&](uint32_t slot, uint64_t id) {
                  stored.emplace_back(slot, id);
                  return true;
                });
  }
  return stored;
}

TEST(StoreQueueTest, StoresWhatHasLivedForAMoment) {
  StoreQueue queue;
  EXPECT_EQ(queue.wake_ms(), -1);
  queue.Add(7, 70, 5000);
  EXPECT_EQ(queue.wake_ms(), 5000 + StoreQueue::kAgeMs);
  EXPECT_EQ(StoredWithin(queue, 5000 + StoreQueue::kAgeMs - 1, 1, 0), Stored());
  EXPECT_EQ(StoredWithin(queue, 5000 + StoreQueue::kAgeMs, 1, 0), Stored({{7, 70}}));
  EXPECT_EQ(queue.wake_ms(), -1);
}

TEST(StoreQueueTest, KeepsOneRegistrationOfASlot) {
  StoreQueue queue;
  for (uint64_t id = 0; id < 1000; ++id) queue.Add(7, id, static_cast<int64_t>(id));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(StoredWithin(queue, StoreQueue::kAgeMs + 998, 1, 0), Stored());
  EXPECT_EQ(StoredWithin(queue, StoreQueue::kAgeMs + 999, 1, 0), Stored({{7, 999}}));
}

TEST(StoreQueueTest, StoresFewerTheMoreAreHeld) {
  StoreQueue queue;
  for (uint32_t slot = 0; slot < 5000; ++slot) queue.Add(slot, slot, 0);
  constexpr size_t kHeld = 1000;
  constexpr int kTicks = 20;
  const Stored stored = StoredWithin(queue, StoreQueue::kAgeMs, kTicks, kHeld);
  EXPECT_LE(stored.size(), kTicks * (StoreQueue::kComparisonsPerTick / kHeld + 1));
  EXPECT_GE(stored.size(), kTicks * StoreQueue::kComparisonsPerTick / (kHeld + stored.size()));
  EXPECT_EQ(stored.size() + queue.size(), 5000u);
  // However many there are, all get there.
  EXPECT_EQ(StoredWithin(queue, 2 * StoreQueue::kAgeMs, 3, 1'000'000).size(), 3u);
}

TEST(StoreQueueTest, WhatIsNotStoredCostsNothing) {
  StoreQueue queue;
  for (uint32_t slot = 0; slot < 5000; ++slot) queue.Add(slot, slot, 0);
  queue.Store(StoreQueue::kAgeMs, 1'000'000, [](uint32_t, uint64_t) { return false; });
  EXPECT_EQ(queue.size(), 0u);
}

TEST(StoreQueueTest, StoresAllAtTheEnd) {
  StoreQueue queue;
  queue.Add(1, 10, 0);
  queue.Add(2, 20, 0);
  Stored stored;
  queue.StoreAll([&](uint32_t slot, uint64_t id) {
    stored.emplace_back(slot, id);
    return true;
  });
  EXPECT_EQ(stored, Stored({{1, 10}, {2, 20}}));
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_EQ(queue.wake_ms(), -1);
}

}  // namespace
}  // namespace evermap
