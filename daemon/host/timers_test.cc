#include "daemon/host/timers.h"

#include <limits>
#include <memory>
#include <string>

#include "gtest/gtest.h"

namespace evermap {
namespace {

TEST(TimersTest, WithoutAPlanThereIsNoTimeout) {
  Timers timers;
  EXPECT_EQ(timers.TimeoutMs(1000), -1);
  const Timer timer(timers, [] { ADD_FAILURE(); });
  EXPECT_FALSE(timer.is_planned());
  EXPECT_EQ(timers.TimeoutMs(1000), -1);
  timers.RunDue(1000);
}

TEST(TimersTest, TheEarliestCounts) {
  Timers timers;
  Timer late(timers, [] {});
  Timer early(timers, [] {});
  late.Plan(1500);
  EXPECT_EQ(timers.TimeoutMs(1000), 500);
  early.Plan(1020);
  EXPECT_EQ(timers.TimeoutMs(1000), 20);
  EXPECT_EQ(timers.TimeoutMs(1020), 0);
  EXPECT_EQ(timers.TimeoutMs(9000), 0);
  early.Cancel();
  EXPECT_EQ(timers.TimeoutMs(1000), 500);
}

TEST(TimersTest, AFarDeadlineFitsInAnInt) {
  Timers timers;
  Timer timer(timers, [] {});
  timer.Plan(std::numeric_limits<int64_t>::max());
  EXPECT_EQ(timers.TimeoutMs(0), std::numeric_limits<int>::max());
}

TEST(TimersTest, WhatIsDueRunsOnceInTheOrderOfConstruction) {
  Timers timers;
  std::string ran;
  Timer a(timers, [&] { ran += 'a'; });
  Timer b(timers, [&] { ran += 'b'; });
  Timer c(timers, [&] { ran += 'c'; });
  c.Plan(10);
  b.Plan(21);
  a.Plan(20);
  timers.RunDue(9);
  EXPECT_EQ(ran, "");
  timers.RunDue(20);
  EXPECT_EQ(ran, "ac");
  EXPECT_FALSE(a.is_planned());
  EXPECT_TRUE(b.is_planned());
  timers.RunDue(20);
  EXPECT_EQ(ran, "ac");
  timers.RunDue(21);
  EXPECT_EQ(ran, "acb");
}

TEST(TimersTest, ACallbackPlansAnew) {
  Timers timers;
  int count = 0;
  std::unique_ptr<Timer> timer;
  timer = std::make_unique<Timer>(timers, [&] {
    ++count;
    EXPECT_FALSE(timer->is_planned());
    // A deadline that is over does not make RunDue() run for ever.
    timer->Plan(5);
  });
  timer->Plan(5);
  timers.RunDue(10);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(timers.TimeoutMs(10), 0);
  timers.RunDue(10);
  EXPECT_EQ(count, 2);
}

TEST(TimersTest, ALaterTimerMayBePlannedOrCancelledByAnEarlierOne) {
  Timers timers;
  std::string ran;
  std::unique_ptr<Timer> planned;
  std::unique_ptr<Timer> cancelled;
  Timer first(timers, [&] {
    ran += '1';
    planned->Plan(0);
    cancelled->Cancel();
  });
  planned = std::make_unique<Timer>(timers, [&] { ran += '2'; });
  cancelled = std::make_unique<Timer>(timers, [&] { ran += '3'; });
  first.Plan(0);
  cancelled->Plan(0);
  timers.RunDue(0);
  EXPECT_EQ(ran, "12");
}

TEST(TimersTest, APlanMayStay) {
  Timers timers;
  Timer timer(timers, [] {});
  timer.PlanUnlessPlanned(100);
  timer.PlanUnlessPlanned(50);
  EXPECT_EQ(timer.deadline_ms(), 100);
  timer.Plan(50);
  EXPECT_EQ(timer.deadline_ms(), 50);
}

TEST(TimersTest, OneThatEndsIsForgotten) {
  Timers timers;
  {
    Timer timer(timers, [] { ADD_FAILURE(); });
    timer.Plan(0);
  }
  EXPECT_EQ(timers.TimeoutMs(0), -1);
  timers.RunDue(0);
}

}  // namespace
}  // namespace evermap
