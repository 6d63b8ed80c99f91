#include "daemon/names/registrar.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/tcp_pair_for_test.h"
#include "registry/counters.h"

namespace evermap {
namespace {

using Outcome = Decision::Outcome;

constexpr uint32_t kCapacity = 4;
constexpr uint32_t kConnectionsMax = 5;

class RegistrarTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    auto registry =
        Registry::Open({.path = absl::StrCat(directory_, "/registry"), .capacity = kCapacity});
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    custody_ = std::make_unique<Custody>(kCapacity, kConnectionsMax, wake_fd_);
    registrar_ =
        std::make_unique<Registrar>(*registry_, *custody_, reservations_, registry_->statistics(0));
  }

  ~RegistrarTest() override {
    close(wake_fd_);
    std::filesystem::remove_all(directory_);
  }

  Decision Register(std::string_view name, int fd, uint16_t port = 7) {
    return registrar_->Register({.name = name, .port = port}, fd);
  }

  const WorkerStatistics& statistics() { return registry_->statistics(0); }

  std::string NameIn(uint32_t slot) {
    Registration found;
    return registry_->ReadSlot(slot, found) ? std::string(found.name()) : "";
  }

  char directory_[32] = "/dev/shm/registrar-test-XXXXXX";
  const int wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Custody> custody_;
  FoundUsers users_;
  Reservations reservations_;
  std::unique_ptr<Registrar> registrar_;
};

TEST_F(RegistrarTest, RegistersAndTakesIntoCustody) {
  const TcpPair node;
  const Decision decision = Register("a", node.server.get());
  ASSERT_EQ(decision.outcome, Outcome::kRegistered);
  EXPECT_GE(decision.creation, kCreationMin);
  EXPECT_EQ(NameIn(decision.registration.slot), "a");
  EXPECT_EQ(custody_->DescriptorOf(decision.registration.slot), node.server.get());
  Registration found;
  ASSERT_TRUE(registry_->Lookup("a", found));
  EXPECT_EQ(found.id, decision.registration.id);
  EXPECT_EQ(found.connection_cookie, SocketCookie(node.server.get()));
}

TEST_F(RegistrarTest, PutsOffWhatAnAwaitedConnectionDecides) {
  // An earlier mapper has registered it.
  const TcpPair holder;
  const RegisterResult held = registry_->Register(
      {.name = "a", .port = 7, .connection_cookie = SocketCookie(holder.server.get())});
  custody_->SetAwaited(1, 1);
  const TcpPair asking;
  const Decision put_off = Register("a", asking.server.get());
  ASSERT_EQ(put_off.outcome, Outcome::kLater);
  EXPECT_EQ(put_off.registration.id, held.id);
  EXPECT_FALSE(registrar_->MayDecide(put_off.registration));
  // A name that nobody has does not wait.
  const TcpPair other;
  EXPECT_EQ(Register("b", other.server.get()).outcome, Outcome::kRegistered);
  ASSERT_TRUE(custody_->HoldStored(held.slot, holder.server.get()));
  EXPECT_TRUE(registrar_->MayDecide(put_off.registration));
  EXPECT_EQ(Register("a", asking.server.get()).outcome, Outcome::kTaken);
}

TEST_F(RegistrarTest, PutsOffWhatAnOrphanDecidesUntilAllHasCome) {
  const TcpPair holder;
  const RegisterResult held = registry_->Register(
      {.name = "a", .port = 7, .connection_cookie = SocketCookie(holder.server.get())});
  ASSERT_TRUE(registry_->Orphan(held.slot, held.id));
  custody_->SetAwaited(0, 0);
  const TcpPair asking;
  const Decision put_off = Register("a", asking.server.get());
  ASSERT_EQ(put_off.outcome, Outcome::kLater);
  // Nor is it ended because a request wants to know whether anybody is registered.
  registrar_->EndGoneOrphans();
  EXPECT_EQ(NameIn(held.slot), "a");
  custody_->SetComplete();
  EXPECT_TRUE(registrar_->MayDecide(put_off.registration));
  EXPECT_NE(Register("a", asking.server.get()).outcome, Outcome::kLater);
}

TEST_F(RegistrarTest, AnnouncesOnlyWhenItIsToldTo) {
  const TcpPair node;
  const Decision decision = Register("a", node.server.get());
  std::vector<uint32_t> announced;
  const auto add = [&](uint32_t slot) { announced.push_back(slot); };
  custody_->TakeNew(add);
  EXPECT_EQ(announced, std::vector<uint32_t>());
  registrar_->Announce(decision.registration);
  custody_->TakeNew(add);
  EXPECT_EQ(announced, std::vector<uint32_t>({decision.registration.slot}));
}

TEST_F(RegistrarTest, EndFreesTheNameAndThePlace) {
  for (uint32_t i = 0; i <= kConnectionsMax; ++i) {
    const TcpPair node;
    const Decision decision = Register("a", node.server.get());
    ASSERT_EQ(decision.outcome, Outcome::kRegistered) << i;
    registrar_->End(decision.registration, node.server.get());
    EXPECT_EQ(custody_->DescriptorOf(decision.registration.slot), -1);
    EXPECT_EQ(registry_->live_count(), 0u);
  }
  EXPECT_EQ(statistics().unregistered, kConnectionsMax + 1);
}

TEST_F(RegistrarTest, EndTouchesNoLaterRegistration) {
  const TcpPair first;
  const Decision earlier = Register("a", first.server.get());
  ASSERT_TRUE(registry_->Unregister(earlier.registration.slot, earlier.registration.id));
  const TcpPair second;
  const Decision later = Register("a", second.server.get());
  ASSERT_EQ(later.outcome, Outcome::kRegistered);
  registrar_->End(earlier.registration, first.server.get());
  EXPECT_EQ(NameIn(later.registration.slot), "a");
  EXPECT_EQ(custody_->DescriptorOf(later.registration.slot), second.server.get());
  EXPECT_EQ(statistics().unregistered, 0u);
}

TEST_F(RegistrarTest, RefusesANameWhoseHolderIsThere) {
  const TcpPair holder;
  ASSERT_EQ(Register("a", holder.server.get()).outcome, Outcome::kRegistered);
  const TcpPair other;
  // Each refusal gives its place in custody back.
  for (uint32_t i = 0; i <= kConnectionsMax; ++i) {
    EXPECT_EQ(Register("a", other.server.get()).outcome, Outcome::kTaken);
  }
  EXPECT_EQ(Register("b", other.server.get()).outcome, Outcome::kRegistered);
}

TEST_F(RegistrarTest, GivesTheNameOfAHolderThatHasLeft) {
  TcpPair holder;
  const Decision earlier = Register("a", holder.server.get());
  holder.client = OwnedFd();
  const TcpPair other;
  const Decision later = Register("a", other.server.get());
  EXPECT_EQ(later.outcome, Outcome::kRegistered);
  EXPECT_NE(later.registration.id, earlier.registration.id);
  EXPECT_EQ(statistics().holders_found_gone, 1u);
}

TEST_F(RegistrarTest, RefusesMoreNodesThanDescriptors) {
  // All places but one are taken by connections of a predecessor.
  const TcpPair node;
  for (uint32_t i = 1; i < kConnectionsMax; ++i) ASSERT_TRUE(custody_->Reserve());
  const Decision last = Register("a", node.server.get());
  ASSERT_EQ(last.outcome, Outcome::kRegistered);
  EXPECT_EQ(Register("b", node.server.get()).outcome, Outcome::kNoDescriptors);
  registrar_->End(last.registration, node.server.get());
  EXPECT_EQ(Register("b", node.server.get()).outcome, Outcome::kRegistered);
}

TEST_F(RegistrarTest, SaysThatTheRegistryIsFull) {
  const TcpPair node;
  std::vector<Decision> decisions;
  for (uint32_t i = 0; i < kCapacity; ++i) {
    decisions.push_back(Register(absl::StrCat("node-", i), node.server.get()));
    ASSERT_EQ(decisions.back().outcome, Outcome::kRegistered);
  }
  EXPECT_EQ(Register("one-more", node.server.get()).outcome, Outcome::kRegistryFull);
  EXPECT_EQ(Register("one-more", node.server.get()).outcome, Outcome::kRegistryFull);
  registrar_->End(decisions[0].registration, node.server.get());
  EXPECT_EQ(Register("one-more", node.server.get()).outcome, Outcome::kRegistered);
}

TEST_F(RegistrarTest, RefusesANameThatTheRegistryCannotHold) {
  const TcpPair node;
  EXPECT_EQ(Register("", node.server.get()).outcome, Outcome::kInvalid);
  EXPECT_EQ(Register(std::string(kRegistryNameSizeMax + 1, 'x'), node.server.get()).outcome,
            Outcome::kInvalid);
}

TEST_F(RegistrarTest, KeepsAReservedNameForItsUser) {
  const std::string other_user = absl::StrCat(getuid() + 1);
  for (const std::string& value :
       {absl::StrCat("theirs=", other_user), absl::StrCat("ours=", getuid())}) {
    ASSERT_TRUE(reservations_.Read("-reserve", value, users_).ok());
  }
  const TcpPair node;
  const Decision theirs = Register("theirs", node.server.get());
  EXPECT_EQ(theirs.outcome, Outcome::kReserved);
  ASSERT_NE(theirs.reserved_for, nullptr);
  EXPECT_EQ(theirs.reserved_for->Text(), "user " + other_user);
  if (theirs.asking_uid == kUnknownUid) GTEST_SKIP() << "the kernel does not tell the peer's user";
  EXPECT_EQ(theirs.asking_uid, getuid());
  EXPECT_EQ(Register("ours", node.server.get()).outcome, Outcome::kRegistered);
}

TEST_F(RegistrarTest, KeepsAReservedNameFromWhoCannotBeTold) {
  ASSERT_TRUE(reservations_.Read("-reserve", absl::StrCat("ours=", getuid()), users_).ok());
  const Decision decision = Register("ours", -1);
  EXPECT_EQ(decision.outcome, Outcome::kReserved);
  EXPECT_EQ(decision.asking_uid, kUnknownUid);
}

// A registration whose connection was lost, of a node that listens on a socket of ours.
class RegistrarOrphanTest : public RegistrarTest {
 protected:
  void SetUp() override {
    RegistrarTest::SetUp();
    if (!ReadListeners().ok()) GTEST_SKIP() << "the kernel does not tell which sockets listen";
    const TcpPair lost;
    orphan_ = Register("a", lost.server.get(), port());
    const auto [slot, id] = orphan_.registration;
    ASSERT_TRUE(registry_->Amend(
        slot, id,
        {.listener_cookie = SocketCookie(distribution_socket_->fd.get()), .owner_uid = getuid()}));
    ASSERT_TRUE(registry_->Orphan(slot, id));
    custody_->GiveUp(slot, lost.server.get());
  }

  uint16_t port() const { return port_; }

  std::unique_ptr<LoopbackListener> distribution_socket_ = std::make_unique<LoopbackListener>();
  const uint16_t port_ = ntohs(distribution_socket_->address.sin_port);
  Decision orphan_;
};

TEST_F(RegistrarOrphanTest, IsAdoptedByTheNodeThatComesBack) {
  const TcpPair node;
  const Decision decision = Register("a", node.server.get(), port());
  ASSERT_EQ(decision.outcome, Outcome::kRegistered);
  EXPECT_EQ(decision.registration.slot, orphan_.registration.slot);
  EXPECT_EQ(decision.registration.id, orphan_.registration.id);
  EXPECT_EQ(decision.creation, orphan_.creation);
  EXPECT_EQ(statistics().adopted, 1u);
  EXPECT_EQ(custody_->DescriptorOf(decision.registration.slot), node.server.get());
}

TEST_F(RegistrarOrphanTest, KeepsItsNameFromANodeOnAnotherPort) {
  const TcpPair node;
  EXPECT_EQ(Register("a", node.server.get(), 8).outcome, Outcome::kTaken);
  EXPECT_EQ(statistics().adopted, 0u);
}

TEST_F(RegistrarOrphanTest, Inv13IsNotAdoptedByAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be another user";
  ASSERT_EQ(seteuid(64101), 0);
  const TcpPair other;
  ASSERT_EQ(seteuid(0), 0);
  for (const uint16_t other_port : {port(), uint16_t{8}, port()}) {
    EXPECT_EQ(Register("a", other.server.get(), other_port).outcome, Outcome::kTaken);
  }
  EXPECT_EQ(statistics().adopted, 0u);
  EXPECT_EQ(statistics().orphans_ended, 0u);
  // root's node itself is not kept out by that.
  const TcpPair node;
  EXPECT_EQ(Register("a", node.server.get(), port()).registration.id, orphan_.registration.id);
}

TEST_F(RegistrarOrphanTest, EndsGoneOrphansOnlyWhenNothingElseIsThere) {
  registrar_->EndGoneOrphans();
  EXPECT_EQ(registry_->live_count(), 1u);
  distribution_socket_ = nullptr;
  const TcpPair node;
  const Decision other = Register("b", node.server.get());
  registrar_->EndGoneOrphans();
  EXPECT_EQ(registry_->live_count(), 2u);
  registrar_->End(other.registration, node.server.get());
  registrar_->EndGoneOrphans();
  EXPECT_EQ(registry_->live_count(), 0u);
  EXPECT_EQ(statistics().orphans_ended, 1u);
}

TEST_F(RegistrarOrphanTest, IsEndedWhenItsNodeIsGone) {
  distribution_socket_ = nullptr;
  const TcpPair node;
  const Decision decision = Register("a", node.server.get(), 8);
  EXPECT_EQ(decision.outcome, Outcome::kRegistered);
  EXPECT_NE(decision.registration.id, orphan_.registration.id);
  EXPECT_EQ(statistics().orphans_ended, 1u);
}

TEST_F(RegistrarTest, EndNamedEndsTheRegistrationAndItsConnection) {
  EXPECT_FALSE(registrar_->EndNamed("a"));
  const TcpPair node;
  ASSERT_EQ(Register("a", node.server.get()).outcome, Outcome::kRegistered);
  EXPECT_TRUE(registrar_->EndNamed("a"));
  EXPECT_FALSE(registrar_->EndNamed("a"));
  EXPECT_EQ(registry_->live_count(), 0u);
  EXPECT_EQ(statistics().unregistered, 1u);
  std::array<char, 1> byte;
  EXPECT_EQ(recv(node.client.get(), byte.data(), byte.size(), 0), 0);
}

}  // namespace
}  // namespace evermap
