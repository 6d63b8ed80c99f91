// The way into the store: one that takes all, is full, is gone, or has a pace.
#include "daemon/custody/deposits.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/custody/custody_testing.h"
#include "daemon/custody/no_store.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/steady_time.h"
#include "gtest/gtest.h"
#include "registry/base/clock.h"
#include "registry/counters.h"

namespace evermap {
namespace {

constexpr size_t kDuplicatesMax = 4;
constexpr int64_t kSoonMs = 10'000;  // after everything that is planned in these tests

// Takes as many as there is room for.
class ScriptedStore final : public Store {
 public:
  std::string_view name() const override { return "scripted"; }
  bool outlives_mapper() const override { return true; }
  DepositQueue::Pace pace() const override { return pace_; }
  bool HoldFiles(absl::Span<const Claim::File>, absl::Span<const std::string>) override {
    return true;
  }
  void ForgetFiles(absl::Span<const Claim::File>) override {}
  void Put(OwnedFd fd) override { waiting_.push_back(std::move(fd)); }
  bool Flush() override {
    ++flushes;
    while (!is_gone && room > 0 && !waiting_.empty()) {
      taken.push_back(SocketCookie(waiting_.front().get()));
      waiting_.erase(waiting_.begin());
      --room;
    }
    return !is_gone;
  }
  size_t waiting() const override { return waiting_.size(); }
  void WarnOfLoss() const override { ++warnings; }
  bool AnnounceMapper() override { return true; }
  void AnnounceStopping() override {}

  DepositQueue::Pace pace_ = {};
  size_t room = 1000;
  bool is_gone = false;
  int flushes = 0;
  mutable int warnings = 0;
  std::vector<uint64_t> taken;  // cookies, in order

 private:
  std::vector<OwnedFd> waiting_;
};

class DepositsTest : public CustodyFixture {
 protected:
  void SetUp() override {
    CustodyFixture::SetUp();
    if (HasFatalFailure()) return;
    Make({});
  }
  void TearDown() override {
    deposits_.reset();
    CustodyFixture::TearDown();
  }
  void Make(DepositQueue::Pace pace) {
    deposits_.reset();
    store_.pace_ = pace;
    deposits_ = std::make_unique<Deposits>(store_, *custody_, *registry_, kDuplicatesMax, timers_);
  }
  // Registers `count` nodes, and adds them.
  std::vector<RegistrationRef> Add(int count) {
    std::vector<RegistrationRef> nodes;
    for (int i = 0; i < count; ++i) {
      nodes.push_back(Hold(absl::StrCat("node", next_++)));
      deposits_->Add(nodes.back());
    }
    return nodes;
  }
  int TimeoutMs() const { return timers_.TimeoutMs(MonotonicCoarseMs()); }
  // As if that much time had gone by for the timers.
  void RunTimers() { timers_.RunDue(MonotonicCoarseMs() + kSoonMs); }
  uint64_t CookieOf(RegistrationRef node) const { return Read(node).connection_cookie; }

  ScriptedStore store_;
  Timers timers_;
  std::unique_ptr<Deposits> deposits_;
  int next_ = 0;
};

TEST_F(DepositsTest, AllIsStoredAtOnce) {
  const auto nodes = Add(3);
  EXPECT_EQ(TimeoutMs(), 0);
  deposits_->StoreDue();
  EXPECT_EQ(store_.taken,
            (std::vector<uint64_t>{CookieOf(nodes[0]), CookieOf(nodes[1]), CookieOf(nodes[2])}));
  EXPECT_EQ(registry_->statistics(0).stored.load(), 3u);
  EXPECT_FALSE(deposits_->store_is_gone());
  EXPECT_EQ(TimeoutMs(), -1);
  EXPECT_EQ(deposits_->StoreAll(SteadyNow()), 0u);
}

TEST_F(DepositsTest, WhatHasEndedIsNotStored) {
  const auto nodes = Add(2);
  End(nodes[0]);
  // Another registration of the same name is not the one that was added.
  const RegistrationRef again = Hold("node0");
  EXPECT_NE(again.id, nodes[0].id);
  deposits_->StoreDue();
  EXPECT_EQ(store_.taken, std::vector<uint64_t>{CookieOf(nodes[1])});
  EXPECT_EQ(TimeoutMs(), -1);
}

TEST_F(DepositsTest, AStoreThatIsFullIsTriedAgain) {
  store_.room = 0;
  Add(kDuplicatesMax + 2);
  deposits_->StoreDue();
  // Duplicates are bounded; the rest is in the queue.
  EXPECT_EQ(store_.waiting(), kDuplicatesMax);
  EXPECT_FALSE(deposits_->store_is_gone());
  EXPECT_GT(TimeoutMs(), 0);
  EXPECT_LE(TimeoutMs(), Deposits::kFullPauseMs);
  store_.room = 1;
  RunTimers();
  EXPECT_EQ(store_.taken.size(), 1u);
  store_.room = 1000;
  // The queue is due again after a tick.
  absl::SleepFor(absl::Milliseconds(DepositQueue::kTickMs + 20));
  RunTimers();
  EXPECT_EQ(store_.taken.size(), kDuplicatesMax + 2);
  EXPECT_EQ(TimeoutMs(), -1);
  EXPECT_EQ(store_.warnings, 0);
}

TEST_F(DepositsTest, AStoreThatIsGoneIsSaidOnceAndTriedAgainLater) {
  store_.is_gone = true;
  Add(1);
  deposits_->StoreDue();
  EXPECT_TRUE(deposits_->store_is_gone());
  EXPECT_GT(TimeoutMs(), Deposits::kFullPauseMs);
  EXPECT_LE(TimeoutMs(), Deposits::kGonePauseMs);
  RunTimers();
  EXPECT_EQ(store_.warnings, 1);
  store_.is_gone = false;
  RunTimers();
  EXPECT_FALSE(deposits_->store_is_gone());
  EXPECT_EQ(store_.taken.size(), 1u);
  EXPECT_EQ(TimeoutMs(), -1);
  // It is said again when it is gone again.
  store_.is_gone = true;
  deposits_->Flush();
  EXPECT_EQ(store_.warnings, 2);
}

TEST_F(DepositsTest, ANewStoreGetsAll) {
  const auto nodes = Add(3);
  deposits_->StoreDue();
  End(nodes[1]);
  store_.taken.clear();
  deposits_->AddAll();
  deposits_->StoreDue();
  EXPECT_EQ(store_.taken, (std::vector<uint64_t>{CookieOf(nodes[0]), CookieOf(nodes[2])}));
}

TEST_F(DepositsTest, WithoutAStoreNothingIsDone) {
  NoStore store;
  Deposits deposits(store, *custody_, *registry_, kDuplicatesMax, timers_);
  deposits.Add(Hold("hare"));
  deposits.StoreDue();
  EXPECT_EQ(TimeoutMs(), -1);
  EXPECT_EQ(registry_->statistics(0).stored.load(), 0u);
  EXPECT_EQ(deposits.StoreAll(SteadyNow()), 0u);
}

TEST_F(DepositsTest, AStoreWithAPaceGetsTheRestAtTheEnd) {
  Make({.age_ms = 60'000, .comparisons_per_tick = 10});
  Add(kDuplicatesMax + 2);
  deposits_->StoreDue();
  EXPECT_EQ(store_.taken.size(), 0u);
  EXPECT_GT(TimeoutMs(), 1000);
  EXPECT_EQ(deposits_->StoreAll(SteadyNow() + absl::Seconds(60)), 0u);
  EXPECT_EQ(store_.taken.size(), kDuplicatesMax + 2);
  EXPECT_EQ(TimeoutMs(), -1);
}

TEST_F(DepositsTest, WhatCouldNotBeStoredAtTheEndIsCounted) {
  store_.room = 3;
  Add(kDuplicatesMax + 2);
  EXPECT_EQ(deposits_->StoreAll(SteadyNow() + absl::Milliseconds(30)), kDuplicatesMax + 2 - 3);
  store_.is_gone = true;
  EXPECT_EQ(deposits_->StoreAll(SteadyNow() + absl::Seconds(60)), kDuplicatesMax + 2 - 3);
}

TEST_F(DepositsTest, DuplicatesAreSentOffWhenDescriptorsAreShort) {
  store_.room = 0;
  const auto nodes = Add(2);
  deposits_->StoreDue();
  EXPECT_EQ(store_.waiting(), 2u);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // Numbers up to the highest that is in use, all taken.
  const OwnedFd highest(fcntl(wake_fd_.get(), F_DUPFD_CLOEXEC, 200));
  rlimit limit = before;
  limit.rlim_cur = static_cast<rlim_t>(highest.get()) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  std::vector<OwnedFd> others;
  while (true) {
    OwnedFd other(fcntl(wake_fd_.get(), F_DUPFD_CLOEXEC, 0));
    if (!other.valid()) break;
    others.push_back(std::move(other));
  }
  EXPECT_FALSE(deposits_->Duplicate(Read(nodes[0])).valid());
  EXPECT_EQ(errno, EMFILE);
  store_.room = 1;
  EXPECT_TRUE(deposits_->Duplicate(Read(nodes[0])).valid());
  EXPECT_EQ(store_.taken.size(), 1u);
  others.clear();
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace evermap
