#include "daemon/custody/deposit_queue.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "daemon/custody/keeper_store.h"
#include "daemon/custody/systemd_store.h"

namespace evermap {
namespace {

using Outcome = DepositQueue::Outcome;
using Stored = std::vector<std::pair<uint32_t, uint64_t>>;

constexpr int64_t kAgeMs = SystemdStore::kPace.age_ms;
constexpr size_t kComparisonsPerTick = SystemdStore::kPace.comparisons_per_tick;

// Everything from `now_ms` on that is stored within `ticks`.
Stored StoredWithin(DepositQueue& queue, int64_t now_ms, int ticks, size_t held) {
  Stored stored;
  for (int i = 0; i < ticks; ++i) {
    queue.Store(now_ms + i * DepositQueue::kTickMs, held + stored.size(),
                [&](RegistrationRef node) {
                  stored.emplace_back(node.slot, node.id);
                  return Outcome::kStored;
                });
  }
  return stored;
}

TEST(DepositQueueTest, StoresWhatHasLivedForAMoment) {
  DepositQueue queue(SystemdStore::kPace);
  EXPECT_EQ(queue.due_ms(), std::nullopt);
  queue.Add({7, 70}, 5000);
  EXPECT_EQ(queue.due_ms(), 5000 + kAgeMs);
  EXPECT_FALSE(queue.IsDue(5000 + kAgeMs - 1));
  EXPECT_EQ(StoredWithin(queue, 5000 + kAgeMs - 1, 1, 0), Stored());
  EXPECT_TRUE(queue.IsDue(5000 + kAgeMs));
  EXPECT_EQ(StoredWithin(queue, 5000 + kAgeMs, 1, 0), Stored({{7, 70}}));
  EXPECT_EQ(queue.due_ms(), std::nullopt);
}

TEST(DepositQueueTest, KeepsOneRegistrationOfASlot) {
  DepositQueue queue(SystemdStore::kPace);
  for (uint64_t id = 0; id < 1000; ++id) queue.Add({7, id}, static_cast<int64_t>(id));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(StoredWithin(queue, kAgeMs + 998, 1, 0), Stored());
  EXPECT_EQ(StoredWithin(queue, kAgeMs + 998 + DepositQueue::kTickMs, 1, 0), Stored({{7, 999}}));
}

TEST(DepositQueueTest, StoresFewerTheMoreAreHeld) {
  DepositQueue queue(SystemdStore::kPace);
  for (uint32_t slot = 0; slot < 5000; ++slot) queue.Add({slot, slot}, 0);
  constexpr size_t kHeld = 1000;
  constexpr int kTicks = 20;
  const Stored stored = StoredWithin(queue, kAgeMs, kTicks, kHeld);
  EXPECT_LE(stored.size(), kTicks * (kComparisonsPerTick / kHeld + 1));
  EXPECT_GE(stored.size(), kTicks * kComparisonsPerTick / (kHeld + stored.size()));
  EXPECT_EQ(stored.size() + queue.size(), 5000u);
  // Nor more by being asked more often.
  EXPECT_EQ(StoredWithin(queue, kAgeMs + kTicks * DepositQueue::kTickMs - 1, 1, kHeld), Stored());
  // However many there are, all get there.
  EXPECT_EQ(StoredWithin(queue, 2 * kAgeMs, 3, 1'000'000).size(), 3u);
}

TEST(DepositQueueTest, WhatIsNotStoredCostsNothing) {
  DepositQueue queue(SystemdStore::kPace);
  for (uint32_t slot = 0; slot < 5000; ++slot) queue.Add({slot, slot}, 0);
  queue.Store(kAgeMs, 1'000'000, [](RegistrationRef) { return Outcome::kEnded; });
  EXPECT_EQ(queue.size(), 0u);
}

TEST(DepositQueueTest, AKeeperTakesAllAtOnce) {
  DepositQueue queue(KeeperStore::kPace);
  for (uint32_t slot = 0; slot < 5000; ++slot) queue.Add({slot, slot}, 7);
  EXPECT_EQ(queue.due_ms(), 7);
  EXPECT_EQ(StoredWithin(queue, 7, 1, 1'000'000).size(), 5000u);
  EXPECT_EQ(queue.due_ms(), std::nullopt);
}

TEST(DepositQueueTest, WhatCannotBeStoredStays) {
  DepositQueue queue(KeeperStore::kPace);
  for (uint32_t slot = 0; slot < 5; ++slot) queue.Add({slot, 10 * slot}, 0);
  Stored stored;
  size_t most = 2;
  const auto store = [&](RegistrationRef node) {
    if (stored.size() == most) return Outcome::kLater;
    stored.emplace_back(node.slot, node.id);
    return Outcome::kStored;
  };
  queue.Store(0, 0, store);
  EXPECT_EQ(stored, Stored({{0, 0}, {1, 10}}));
  EXPECT_EQ(queue.due_ms(), DepositQueue::kTickMs);
  most = 4;
  queue.StoreAll(store);
  EXPECT_EQ(queue.size(), 1u);
  // Another registration has the slot meanwhile.
  queue.Add({4, 41}, 0);
  most = 5;
  queue.Store(DepositQueue::kTickMs, 0, store);
  EXPECT_EQ(stored, Stored({{0, 0}, {1, 10}, {2, 20}, {3, 30}, {4, 41}}));
  EXPECT_EQ(queue.due_ms(), std::nullopt);
}

TEST(DepositQueueTest, StoresAllAtTheEnd) {
  DepositQueue queue(SystemdStore::kPace);
  queue.Add({1, 10}, 0);
  queue.Add({2, 20}, 0);
  Stored stored;
  queue.StoreAll([&](RegistrationRef node) {
    stored.emplace_back(node.slot, node.id);
    return Outcome::kStored;
  });
  EXPECT_EQ(stored, Stored({{1, 10}, {2, 20}}));
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_EQ(queue.due_ms(), std::nullopt);
}

}  // namespace
}  // namespace evermap
