#include "daemon/serve/eviction.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "daemon/serve/descriptor_budget.h"
#include "daemon/serve/serve_fixture_for_test.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

using State = Connection::State;

constexpr int64_t kPacketTimeoutMs = 5000;

class EvictionTest : public ServeTest {
 protected:
  void SetUp() override {
    ServeTest::SetUp();
    Serve({.packet_timeout_ms = kPacketTimeoutMs});
    exchange_.emplace(loop_, *shared_, statistics());
    eviction_.emplace(loop_, *shared_, *exchange_, statistics());
  }

  // A new connection, from which nothing was read yet.
  uint32_t Open() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    clients_.emplace_back(fds[0]);
    return *exchange_->Open(fds[1]);
  }
  // One that waits for its request.
  uint32_t Reading() {
    const uint32_t number = Open();
    exchange_->ReceiveFirst(number);
    return number;
  }
  // One whose peer does not read the `text` that it asked for.
  uint32_t Writing(SharedText text) {
    const uint32_t number = Open();
    exchange_->SendTextAndClose(number, std::move(text));
    EXPECT_EQ(StateOf(number), State::kWriting);
    return number;
  }

  State StateOf(uint32_t number) const { return exchange_->connections()[number].state; }

  // Lets all that is there become old enough to be evicted.
  static void Age() { absl::SleepFor(absl::Milliseconds(4 * kEvictionAgeMinMs)); }

  std::optional<Exchange> exchange_;
  std::optional<Eviction> eviction_;
  std::vector<OwnedFd> clients_;
};

TEST_F(EvictionTest, EndsTheOldestOfWhatIsUnfinished) {
  const uint32_t first = Reading();
  const uint32_t second = Reading();
  const uint32_t third = Reading();
  Age();
  EXPECT_EQ(eviction_->Evict(2), 2u);
  EXPECT_EQ(StateOf(first), State::kDraining);
  EXPECT_EQ(StateOf(second), State::kDraining);
  EXPECT_EQ(StateOf(third), State::kReading);
  EXPECT_EQ(eviction_->Evict(2), 1u);
  EXPECT_EQ(eviction_->Evict(2), 0u);
  EXPECT_EQ(statistics().closed_evicted, 3u);
}

TEST_F(EvictionTest, LeavesWhatHasJustCome) {
  const uint32_t old = Reading();
  Age();
  const uint32_t young = Reading();
  EXPECT_EQ(eviction_->Evict(2), 1u);
  EXPECT_EQ(StateOf(old), State::kDraining);
  EXPECT_EQ(StateOf(young), State::kReading);
}

TEST_F(EvictionTest, LeavesNodesAndWhatWaitsForAList) {
  const uint32_t node = Open();
  exchange_->KeepNode(node, {}, {}, false);
  const uint32_t list = Open();
  exchange_->AwaitList(list);
  Age();
  EXPECT_EQ(eviction_->Evict(2), 0u);
  eviction_->EndOverdue(MonotonicCoarseMs() + 2 * kPacketTimeoutMs);
  EXPECT_EQ(StateOf(node), State::kNode);
  EXPECT_EQ(StateOf(list), State::kAwaitingList);
}

TEST_F(EvictionTest, EndsWhatIsOverdue) {
  const uint32_t reading = Reading();
  const uint32_t writing = Writing(std::make_shared<std::string>(size_t{8} << 20, 'x'));
  eviction_->EndOverdue(MonotonicCoarseMs());
  EXPECT_EQ(statistics().closed_timeout, 0u);
  eviction_->EndOverdue(MonotonicCoarseMs() + kPacketTimeoutMs);
  EXPECT_EQ(StateOf(reading), State::kDraining);
  EXPECT_EQ(StateOf(writing), State::kEnding);
  EXPECT_EQ(statistics().closed_timeout, 2u);
}

TEST_F(EvictionTest, AsksOtherWorkersAndNotItself) {
  NotingLoop other;
  shared_->loops = {&loop_, &other};
  eviction_->AskOthers();
  EXPECT_EQ(loop_.wakes, 0);
  EXPECT_EQ(other.wakes, 1);
}

TEST_F(EvictionTest, EvictsForOthersOncePerRequest) {
  const uint32_t number = Reading();
  Age();
  EXPECT_FALSE(eviction_->EvictForOthers());
  EXPECT_EQ(StateOf(number), State::kReading);
  eviction_->AskOthers();
  EXPECT_TRUE(eviction_->EvictForOthers());
  EXPECT_EQ(StateOf(number), State::kDraining);
  EXPECT_FALSE(eviction_->EvictForOthers());
}

TEST_F(EvictionTest, EndsTheSlowestReadersUntilTheRestFits) {
  KeptTexts texts;
  constexpr size_t kSize = kSlowTextsSizeMax / 2;
  const uint32_t first = Writing(texts.Keep(std::string(kSize, 'x')));
  const uint32_t reading = Reading();
  const uint32_t second = Writing(texts.Keep(std::string(kSize, 'x')));
  eviction_->EvictSlowReaders(texts);
  EXPECT_EQ(StateOf(first), State::kWriting);
  EXPECT_EQ(texts.size(), kSlowTextsSizeMax);
  // The text that is about to be sent is not to be lost with them.
  const SharedText next = texts.Keep(std::string(1, 'x'));
  eviction_->EvictSlowReaders(texts);
  EXPECT_EQ(StateOf(first), State::kEnding);
  EXPECT_EQ(StateOf(second), State::kWriting);
  EXPECT_EQ(StateOf(reading), State::kReading);
  EXPECT_EQ(texts.size(), kSize + 1);
  EXPECT_EQ(statistics().closed_evicted, 1u);
}

TEST(DescriptorBudgetTest, TheTableIsFullWhenOnlySpareDescriptorsAreLeft) {
  EXPECT_FALSE(IsDescriptorTableFull(1024 - static_cast<int>(kDescriptorsSpare) - 1, 1024));
  EXPECT_TRUE(IsDescriptorTableFull(1024 - static_cast<int>(kDescriptorsSpare), 1024));
  EXPECT_TRUE(IsDescriptorTableFull(1023, 1024));
}

}  // namespace
}  // namespace evermap
