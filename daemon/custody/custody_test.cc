// Tests of custody; their names carry the numbers of its invariants (custody.h).
#include "daemon/custody/custody.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "daemon/custody/custody_testing.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/wake_fd.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

class CustodyTest : public CustodyFixture {
 protected:
  bool IsWoken() const {
    pollfd polled = {wake_fd_.get(), POLLIN, 0};
    return poll(&polled, 1, 0) > 0;
  }
  std::vector<uint32_t> TakeNew() {
    std::vector<uint32_t> taken;
    custody_->TakeNew([&taken](uint32_t slot) { taken.push_back(slot); });
    std::sort(taken.begin(), taken.end());
    return taken;
  }
};

TEST_F(CustodyTest, HasAsManyAsThereMayBe) {
  Custody custody(kCapacity, 2, wake_fd_.get());
  EXPECT_TRUE(custody.Reserve());
  EXPECT_TRUE(custody.Reserve());
  EXPECT_FALSE(custody.Reserve());
  custody.Release();
  EXPECT_TRUE(custody.Reserve());
  // Connections that the store has are held, however many there are.
  EXPECT_TRUE(custody.HoldStored(7, 77));
  custody.Release();
  EXPECT_FALSE(custody.Reserve());
  custody.GiveUp(7, 77);
  EXPECT_TRUE(custody.Reserve());
}

TEST_F(CustodyTest, TellsWhatIsHeld) {
  const RegistrationRef node = Hold("hare");
  EXPECT_EQ(custody_->DescriptorOf(node.slot), connections_[node.id].ours.get());
  const OwnedFd duplicate = custody_->Duplicate(Read(node));
  ASSERT_TRUE(duplicate.valid());
  EXPECT_EQ(SocketCookie(duplicate.get()), Read(node).connection_cookie);
  EXPECT_NE(fcntl(duplicate.get(), F_GETFD) & FD_CLOEXEC, 0);
  const Registration found = Read(node);
  End(node);
  EXPECT_EQ(custody_->DescriptorOf(node.slot), -1);
  EXPECT_FALSE(custody_->Duplicate(found).valid());
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(custody_->DescriptorOf(kCapacity), -1);
}

TEST_F(CustodyTest, C1_AnotherSocketOfTheSameNumberIsNotBelieved) {
  const RegistrationRef node = Hold("hare");
  // The worker closes the connection, and another one gets its number.
  const Connection other = Connect();
  const int number = connections_[node.id].ours.get();
  ASSERT_EQ(dup2(other.ours.get(), number), number);
  EXPECT_FALSE(custody_->Duplicate(Read(node)).valid());
  EXPECT_EQ(errno, EBADF);
  custody_->Shutdown(Read(node));
  EXPECT_EQ(send(number, "x", 1, MSG_NOSIGNAL), 1);
  // Nor is a file, which has no cookie.
  const OwnedFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(dup2(file.get(), number), number);
  EXPECT_FALSE(custody_->Duplicate(Read(node)).valid());
  EXPECT_EQ(errno, EBADF);
}

TEST_F(CustodyTest, WhatALaterConnectionHoldsStays) {
  custody_->Hold(7, 77);
  custody_->Hold(7, 78);
  custody_->GiveUp(7, 77);
  EXPECT_EQ(custody_->DescriptorOf(7), 78);
  // One that was handed over does not take the place of another.
  EXPECT_FALSE(custody_->HoldStored(7, 79));
  EXPECT_EQ(custody_->DescriptorOf(7), 78);
}

TEST_F(CustodyTest, KeepsRoomForThoseThatAreAwaited) {
  Custody custody(kCapacity, 3, wake_fd_.get());
  EXPECT_TRUE(custody.is_complete());
  custody.SetAwaited(2, 2);
  EXPECT_FALSE(custody.is_complete());
  EXPECT_TRUE(custody.Reserve());
  EXPECT_FALSE(custody.Reserve());
  // One that comes is counted once.
  EXPECT_TRUE(custody.HoldStored(7, 77));
  EXPECT_EQ(custody.awaited(), 1u);
  EXPECT_FALSE(custody.Reserve());
  custody.GiveUp(7, 77);
  EXPECT_TRUE(custody.Reserve());
  // Orphans have none, and may be more than there is room for.
  custody.SetAwaited(1000, 1000);
  EXPECT_EQ(custody.awaited(), 3u);
  custody.SetComplete();
  EXPECT_TRUE(custody.is_complete());
  EXPECT_TRUE(custody.Reserve());
}

TEST_F(CustodyTest, KnowsWhichConnectionsMayCome) {
  Registration live;
  live.slot = 7;
  live.state = RegistrationState::kLive;
  Registration orphan = live;
  orphan.state = RegistrationState::kOrphaned;
  EXPECT_FALSE(custody_->MayCome(live));
  custody_->SetAwaited(1, 1);
  EXPECT_TRUE(custody_->MayCome(live));
  EXPECT_TRUE(custody_->MayCome(orphan));
  // A predecessor that leaves passes on what it registers now, and no orphans.
  custody_->SetAwaitsLate(true);
  custody_->SetComplete();
  EXPECT_TRUE(custody_->MayCome(live));
  EXPECT_FALSE(custody_->MayCome(orphan));
  ASSERT_TRUE(custody_->HoldStored(7, 77));
  EXPECT_FALSE(custody_->MayCome(live));
  custody_->GiveUp(7, 77);
  custody_->SetAwaitsLate(false);
  EXPECT_FALSE(custody_->MayCome(live));
}

TEST_F(CustodyTest, ShutsAConnectionDown) {
  const RegistrationRef node = Hold("hare");
  custody_->Shutdown(Read(node));
  char byte;
  EXPECT_EQ(recv(connections_[node.id].node.get(), &byte, 1, 0), 0);
}

TEST_F(CustodyTest, NoticesThatANodeHasLeft) {
  // TCP, whose state is looked at.
  const OwnedFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener.get(), any, size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  ASSERT_EQ(getsockname(listener.get(), any, &size), 0);
  Connection connection;
  connection.node = OwnedFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(connection.node.get(), any, size), 0);
  connection.ours = OwnedFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(connection.ours.valid());
  const RegistrationRef node = Register("hare", connection);
  EXPECT_FALSE(custody_->HasLeft(Read(node)));
  custody_->HoldStored(node.slot, connection.ours.get());
  EXPECT_FALSE(custody_->HasLeft(Read(node)));
  connection.node = OwnedFd();
  pollfd end = {connection.ours.get(), POLLIN, 0};
  ASSERT_EQ(poll(&end, 1, 10'000), 1);
  EXPECT_TRUE(custody_->HasLeft(Read(node)));
}

TEST_F(CustodyTest, C2_ASlotIsNewOnce) {
  EXPECT_FALSE(IsWoken());
  custody_->Announce(5);
  custody_->Announce(7);
  custody_->Announce(5);
  EXPECT_TRUE(IsWoken());
  ClearWakes(wake_fd_.get());
  EXPECT_EQ(TakeNew(), (std::vector<uint32_t>{5, 7}));
  EXPECT_EQ(TakeNew(), std::vector<uint32_t>());
  custody_->Announce(5);
  EXPECT_TRUE(IsWoken());
  EXPECT_EQ(TakeNew(), std::vector<uint32_t>{5});
}

TEST_F(CustodyTest, C2_OneThatIsAnnouncedWhileItIsTakenIsTakenAgain) {
  custody_->Announce(5);
  custody_->TakeNew([this](uint32_t slot) { custody_->Announce(slot); });
  EXPECT_EQ(TakeNew(), std::vector<uint32_t>{5});
}

TEST_F(CustodyTest, NoneIsLostBetweenThreads) {
  constexpr uint32_t kSlotsOfThread = kCapacity / 4;
  std::atomic<int> running{4};
  std::vector<std::thread> threads;
  for (uint32_t first = 0; first < kCapacity; first += kSlotsOfThread) {
    threads.emplace_back([this, first, &running] {
      for (uint32_t i = 0; i < kSlotsOfThread; ++i) custody_->Announce(first + i);
      --running;
    });
  }
  std::vector<int> times(kCapacity);
  bool is_last = false;
  while (!is_last) {
    is_last = running == 0;
    custody_->TakeNew([&times](uint32_t slot) { ++times[slot]; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::count(times.begin(), times.end(), 1), static_cast<int>(kCapacity));
}

}  // namespace
}  // namespace evermap
