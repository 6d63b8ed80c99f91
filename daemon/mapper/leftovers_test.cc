// What an earlier mapper leaves: connections that wait, and registrations that nobody watches.
#include "daemon/mapper/leftovers.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "daemon/custody/custody_testing.h"
#include "gtest/gtest.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

class LeftoversTest : public CustodyFixture {
 protected:
  void SetUp() override {
    CustodyFixture::SetUp();
    if (HasFatalFailure()) return;
    listener_ = OwnedFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address_);
    ASSERT_EQ(bind(listener_.get(), Any(), size), 0);
    ASSERT_EQ(listen(listener_.get(), 8), 0);
    ASSERT_EQ(getsockname(listener_.get(), Any(), &size), 0);
    listeners_ = {listener_.get()};
    inquiry_ = std::make_unique<Inquiry>(*registry_, *custody_, timers_);
    restoration_ =
        std::make_unique<Restoration>(*registry_, *custody_, *inquiry_, timers_, absl::Hours(1),
                                      [](OwnedFd, RegistrationRef) { ADD_FAILURE(); });
    leftovers_ = std::make_unique<Leftovers>(
        *registry_, *custody_, *restoration_, timers_, listeners_, [this] { ++accepted_anew_; },
        std::vector<const Registering*>{&idle_, &worker_});
  }
  void TearDown() override {
    leftovers_.reset();
    restoration_.reset();
    inquiry_.reset();
    CustodyFixture::TearDown();
  }
  sockaddr* Any() { return reinterpret_cast<sockaddr*>(&address_); }
  int TimeoutMs() const { return timers_.TimeoutMs(MonotonicCoarseMs()); }
  // Runs all that is due within `ms`, once.
  void RunTimers(int64_t ms) { timers_.RunDue(MonotonicCoarseMs() + ms); }

  OwnedFd listener_;
  sockaddr_in address_ = {};
  std::vector<int> listeners_;
  Timers timers_;
  std::unique_ptr<Inquiry> inquiry_;
  std::unique_ptr<Restoration> restoration_;
  Registering idle_;
  Registering worker_;
  std::unique_ptr<Leftovers> leftovers_;
  int accepted_anew_ = 0;
};

TEST_F(LeftoversTest, ConnectionsThatWaitAreLookedFor) {
  EXPECT_EQ(TimeoutMs(), -1);
  leftovers_->Watch(true);
  EXPECT_LE(TimeoutMs(), Leftovers::kAcceptPauseMinMs);
  RunTimers(Leftovers::kAcceptPauseMinMs);
  EXPECT_EQ(accepted_anew_, 0);
  const OwnedFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(client.get(), Any(), sizeof(address_)), 0);
  RunTimers(2 * Leftovers::kAcceptPauseMinMs);
  EXPECT_EQ(accepted_anew_, 1);
  // The pause doubles, up to the longest.
  for (int i = 0; i < 20; ++i) RunTimers(Leftovers::kAcceptPauseMaxMs);
  EXPECT_EQ(accepted_anew_, 21);
  EXPECT_GT(TimeoutMs(), Leftovers::kAcceptPauseMaxMs / 2);
  EXPECT_LE(TimeoutMs(), Leftovers::kAcceptPauseMaxMs);
}

TEST_F(LeftoversTest, WhatNobodyWatchesBecomesAnOrphan) {
  Connection connection = Connect();
  const RegistrationRef lost = Register("lost", connection);
  leftovers_->Watch(false);
  EXPECT_EQ(Read(lost).state, RegistrationState::kLive);
  RunTimers(Leftovers::kUnwatchedPauseMs);
  EXPECT_EQ(Read(lost).state, RegistrationState::kOrphaned);
}

TEST_F(LeftoversTest, WhatAWorkerIsAboutToTakeIntoCustodyDoesNot) {
  Connection lost_connection = Connect();
  const RegistrationRef lost = Register("lost", lost_connection);
  Connection late_connection = Connect();
  RegistrationRef late;
  leftovers_->Watch(false);
  {
    // The worker is off the CPU for longer than several looks take.
    const Registering::Step step(worker_);
    late = Register("late", late_connection);
    for (int i = 0; i < 5; ++i) {
      RunTimers(Leftovers::kUnwatchedPauseMs);
      EXPECT_EQ(Read(late).state, RegistrationState::kLive);
      // The same worker might be about to take this one.
      EXPECT_EQ(Read(lost).state, RegistrationState::kLive);
    }
    custody_->HoldStored(late.slot, late_connection.ours.get());
  }
  RunTimers(Leftovers::kUnwatchedPauseMs);
  EXPECT_EQ(Read(late).state, RegistrationState::kLive);
  EXPECT_EQ(Read(lost).state, RegistrationState::kOrphaned);
}

TEST_F(LeftoversTest, AWorkerThatRegistersAllTheTimeHoldsNothingUp) {
  Connection connection = Connect();
  const RegistrationRef lost = Register("lost", connection);
  leftovers_->Watch(false);
  {
    const Registering::Step step(worker_);
    RunTimers(Leftovers::kUnwatchedPauseMs);
    EXPECT_EQ(Read(lost).state, RegistrationState::kLive);
  }
  const Registering::Step next(worker_);
  RunTimers(Leftovers::kUnwatchedPauseMs);
  EXPECT_EQ(Read(lost).state, RegistrationState::kOrphaned);
}

TEST_F(LeftoversTest, WhileThePredecessorIsThereItWatches) {
  Connection connection = Connect();
  const RegistrationRef node = Register("hare", connection);
  leftovers_->Watch(true);
  for (int i = 0; i < 3; ++i) RunTimers(Leftovers::kUnwatchedPauseMs);
  EXPECT_EQ(Read(node).state, RegistrationState::kLive);
  leftovers_->Watch(false);
  RunTimers(Leftovers::kUnwatchedPauseMs);
  EXPECT_EQ(Read(node).state, RegistrationState::kOrphaned);
}

}  // namespace
}  // namespace evermap
