#include "daemon/host/log_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <optional>
#include <thread>
#include <vector>

namespace evermap {
namespace {

struct Line {
  int producer = 0;
  int number = -1;
};

TEST(LogQueueTest, FirstInFirstOutAroundTheRing) {
  LogQueue<Line, 4> queue;
  for (int number = 0; number < 11; ++number) {
    ASSERT_TRUE(queue.Put({.number = number}));
    const std::optional<Line> line = queue.Take();
    ASSERT_TRUE(line.has_value());
    EXPECT_EQ(line->number, number);
    EXPECT_FALSE(queue.Take().has_value());
  }
}

TEST(LogQueueTest, WhatFindsNoRoomIsCounted) {
  LogQueue<Line, 4> queue;
  for (int number = 0; number < 7; ++number) EXPECT_EQ(queue.Put({.number = number}), number < 4);
  EXPECT_EQ(queue.TakeDropped(), 3u);
  EXPECT_EQ(queue.TakeDropped(), 0u);
  EXPECT_EQ(queue.put_in_all(), 4u);
  EXPECT_EQ(queue.Take()->number, 0);
  // There is room for one again.
  EXPECT_TRUE(queue.Put({.number = 7}));
  EXPECT_FALSE(queue.Put({.number = 8}));
  for (const int number : {1, 2, 3, 7}) EXPECT_EQ(queue.Take()->number, number);
}

// Each producer's lines come in their order, and every line is either taken or counted.
TEST(LogQueueTest, ManyProducers) {
  constexpr int kProducers = 4;
  constexpr int kLinesEach = 20'000;
  LogQueue<Line, 64> queue;
  std::vector<std::thread> producers;
  std::atomic<int> under_way{kProducers};
  for (int producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] {
      for (int number = 0; number < kLinesEach; ++number) {
        queue.Put({.producer = producer, .number = number});
      }
      --under_way;
    });
  }
  std::vector<int> last(kProducers, -1);
  size_t taken = 0;
  const auto take_all = [&] {
    for (std::optional<Line> line = queue.Take(); line.has_value(); line = queue.Take()) {
      EXPECT_GT(line->number, last[static_cast<size_t>(line->producer)]);
      last[static_cast<size_t>(line->producer)] = line->number;
      ++taken;
    }
  };
  while (under_way > 0) take_all();
  for (std::thread& producer : producers) producer.join();
  take_all();
  EXPECT_EQ(taken, queue.put_in_all());
  EXPECT_EQ(taken + queue.TakeDropped(), size_t{kProducers} * kLinesEach);
}

TEST(LogQueueTest, AConsumerThatSleepsIsWoken) {
  LogQueue<Line, 4> queue;
  std::thread producer;
  const int seen = queue.puts();
  ASSERT_FALSE(queue.Take().has_value());
  producer = std::thread([&queue] { queue.Put({.number = 5}); });
  queue.AwaitPut(seen);
  EXPECT_EQ(queue.Take()->number, 5);
  producer.join();
}

}  // namespace
}  // namespace evermap
