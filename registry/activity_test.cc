#include "registry/activity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>

#include "registry/counters.h"
#include "registry/registry.h"

namespace evermap {
namespace {

using testing::ElementsAre;

constexpr size_t kPort2 = 1;

class ActivityTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = std::string(directory_) + "/registry";
  }
  ~ActivityTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<Activity> Make(const std::vector<std::string>& expected = {}) {
    std::string problem;
    std::unique_ptr<Activity> made = Activity::Make(path_, 2, expected, problem);
    EXPECT_EQ(problem, "");
    return made;
  }

  static AskerAddress Address(uint32_t number) {
    AskerAddress address = {};
    address[10] = address[11] = '\xff';
    address[12] = 10;
    address[13] = static_cast<char>(number >> 16);
    address[14] = static_cast<char>(number >> 8);
    address[15] = static_cast<char>(number);
    return address;
  }

  char directory_[40] = "/dev/shm/activity-test-XXXXXX";
  std::string path_;
};

TEST_F(ActivityTest, TellsTheExpectedNames) {
  const auto activity = Make({"rabbit", "ejabberd"});
  const auto report = ReadActivity(path_);
  ASSERT_TRUE(report.has_value());
  EXPECT_THAT(report->expected, ElementsAre("rabbit", "ejabberd"));
  EXPECT_EQ(report->workers, 2u);
  EXPECT_TRUE(report->askers.empty());
  EXPECT_FALSE(report->minute_ago.has_value());
}

TEST_F(ActivityTest, CountsAskersOfAllWorkersByKind) {
  const auto activity = Make();
  Askers first = activity->AskersOf(0);
  Askers second = activity->AskersOf(1);
  first.Count(Address(1), kPort2, 1);
  first.Count(Address(1), kPort2, 16);
  second.Count(Address(1), 0, 1);
  second.Count(Address(2), 2, 5);
  const auto report = ReadActivity(path_);
  ASSERT_EQ(report->askers.size(), 2u);
  EXPECT_EQ(AskerText(report->askers[0].address), "10.0.0.1");
  EXPECT_EQ(report->askers[0].counts[0], 1u);
  EXPECT_EQ(report->askers[0].counts[kPort2], 17u);
  EXPECT_EQ(report->askers[1].counts[2], 5u);
}

TEST_F(ActivityTest, WhoAsksMostIsNotLostAmongMany) {
  const auto activity = Make();
  Askers askers = activity->AskersOf(0);
  // A tenth of the requests are of one address, the others of as many addresses.
  for (uint32_t i = 0; i < 100'000; ++i) {
    askers.Count(Address(i % 10 == 0 ? 7 : 1000 + i), kPort2, 1);
  }
  const auto report = ReadActivity(path_);
  EXPECT_EQ(report->askers.size(), kAskersPerWorker);
  uint64_t most = 0;
  uint64_t total = 0;
  for (const ActivityReport::Asker& asker : report->askers) {
    total += asker.counts[kPort2];
    if (asker.address == Address(7)) most = asker.counts[kPort2];
  }
  EXPECT_GE(most, 10'000u);
  EXPECT_EQ(total, 100'000u);
}

TEST_F(ActivityTest, ManyRequestsInATickAreSampled) {
  const auto activity = Make();
  Askers askers = activity->AskersOf(0);
  uint64_t weight = 0;
  uint32_t asked = 0;
  for (int i = 0; i < 10'000; ++i) {
    const uint32_t one = askers.WeightOfNext(1);
    weight += one;
    if (one > 0) ++asked;
  }
  EXPECT_NEAR(static_cast<double>(weight), 10'000, kAskEvery);
  EXPECT_LT(asked, 10'000u / kAskEvery + kAsksPerTick + 1);
  EXPECT_EQ(askers.WeightOfNext(2), 1u);
  EXPECT_EQ(Askers().WeightOfNext(1), 0u);
}

TEST_F(ActivityTest, KnowsTheCountersOfAMinuteAgo) {
  const auto activity = Make();
  auto registry = Registry::Open({.path = path_, .capacity = 8});
  ASSERT_TRUE(registry.ok());
  WorkerStatistics& statistics = (*registry)->statistics(0);
  (*registry)->statistics(5).names = 1'000'000;  // of an earlier mapper with more workers
  statistics.names = 10;
  activity->TakeSnapshotIfDue(1, (*registry)->view());
  statistics.names = 30;
  // This one is not due.
  activity->TakeSnapshotIfDue(2, (*registry)->view());
  const auto report = ReadActivity(path_);
  ASSERT_TRUE(report->minute_ago.has_value());
  const CounterTotals now = ReadCounterTotals((*registry)->view(), report->workers);
  EXPECT_EQ(Growth(*report->minute_ago, now).Of(&WorkerStatistics::names), 20u);
  // More of them than there are places.
  for (int64_t i = 1; i < 40; ++i) {
    activity->TakeSnapshotIfDue(1 + i * kSnapshotIntervalMs, (*registry)->view());
  }
  EXPECT_EQ(ReadActivity(path_)->minute_ago->Of(&WorkerStatistics::names), 30u);
}

TEST_F(ActivityTest, AnotherMapperMakesItAnew) {
  const auto former = Make({"a"});
  const auto newer = Make({"b"});
  former->AskersOf(0).Count(Address(1), kPort2, 1);
  EXPECT_THAT(ReadActivity(path_)->expected, ElementsAre("b"));
  EXPECT_TRUE(ReadActivity(path_)->askers.empty());
}

TEST_F(ActivityTest, OtherBytesAreNotBelieved) {
  EXPECT_FALSE(ReadActivity(path_).has_value());
  const auto activity = Make({"a"});
  const std::string file = path_ + ".activity";
  const auto size = std::filesystem::file_size(file);
  const auto write = [&](uint64_t at, uint64_t value) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(at * 8));
    stream.write(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  write(3, ~uint64_t{0});  // the size of the names
  EXPECT_TRUE(ReadActivity(path_)->expected.empty());
  write(2, 1'000'000);  // workers
  EXPECT_FALSE(ReadActivity(path_).has_value());
  write(2, 2);
  EXPECT_TRUE(ReadActivity(path_).has_value());
  write(0, 1);
  EXPECT_FALSE(ReadActivity(path_).has_value());
  std::filesystem::resize_file(file, size - 8);
  EXPECT_FALSE(ReadActivity(path_).has_value());
}

TEST_F(ActivityTest, WhereItCannotBeMadeThatIsSaid) {
  std::string problem;
  EXPECT_EQ(Activity::Make("/nowhere/registry", 1, {}, problem), nullptr);
  EXPECT_NE(problem, "");
}

}  // namespace
}  // namespace evermap
