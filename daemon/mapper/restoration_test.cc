// Connections that a mapper was handed, and the registrations that it finds.
#include "daemon/mapper/restoration.h"

#include <sys/socket.h>

#include <memory>
#include <utility>
#include <vector>

#include "daemon/custody/custody_testing.h"
#include "gtest/gtest.h"
#include "registry/counters.h"
#include "registry/reader.h"

namespace evermap {
namespace {

class RestorationTest : public CustodyFixture {
 protected:
  void SetUp() override {
    CustodyFixture::SetUp();
    if (HasFatalFailure()) return;
    inquiry_ = std::make_unique<Inquiry>(*registry_, *custody_, timers_);
    StartAnew();
  }
  void TearDown() override {
    restoration_.reset();
    inquiry_.reset();
    CustodyFixture::TearDown();
  }
  static std::vector<OwnedFd> OurEnds(Connection& connection) {
    std::vector<OwnedFd> ends;
    ends.push_back(std::move(connection.ours));
    return ends;
  }
  // What a mapper does when it starts.
  void RestoreAll(std::vector<OwnedFd> connections) {
    restoration_->ReadRegistry();
    restoration_->Restore(std::move(connections));
    restoration_->OrphanTheRest();
  }
  // A mapper that starts now: what is registered is an earlier one's.
  void StartAnew() {
    restoration_ =
        std::make_unique<Restoration>(*registry_, *custody_, *inquiry_, timers_, absl::Hours(1),
                                      [this](OwnedFd connection, RegistrationRef node) {
                                        given_.emplace_back(std::move(connection), node);
                                      });
  }
  static bool IsOpen(const Connection& connection) {
    char byte;
    return recv(connection.node.get(), &byte, 1, MSG_DONTWAIT) != 0;
  }
  uint64_t orphaned() { return registry_->statistics(0).orphaned.load(); }

  Timers timers_;
  std::unique_ptr<Inquiry> inquiry_;
  std::unique_ptr<Restoration> restoration_;
  std::vector<std::pair<OwnedFd, RegistrationRef>> given_;
};

TEST_F(RestorationTest, AConnectionFindsItsRegistration) {
  Connection connection = Connect();
  const int number = connection.ours.get();
  const RegistrationRef node = Register("hare", connection);
  RestoreAll(OurEnds(connection));
  ASSERT_EQ(given_.size(), 1u);
  EXPECT_EQ(given_[0].second.id, node.id);
  EXPECT_EQ(custody_->DescriptorOf(node.slot), number);
  EXPECT_TRUE(IsOpen(connection));
  EXPECT_EQ(Read(node).state, RegistrationState::kLive);
  EXPECT_EQ(orphaned(), 0u);
}

TEST_F(RestorationTest, AConnectionOfNoRegistrationIsShutDown) {
  Connection connection = Connect();
  const RegistrationRef node = Register("hare", connection);
  registry_->Unregister(node.slot, node.id);
  RestoreAll(OurEnds(connection));
  EXPECT_EQ(given_.size(), 0u);
  EXPECT_FALSE(IsOpen(connection));
}

TEST_F(RestorationTest, ARegistrationWithoutAConnectionBecomesAnOrphan) {
  Connection connection = Connect();
  const RegistrationRef node = Register("hare", connection);
  StartAnew();
  RestoreAll({});
  EXPECT_EQ(Read(node).state, RegistrationState::kOrphaned);
  EXPECT_EQ(orphaned(), 1u);
  EXPECT_EQ(registry_->view().CountConnected(), 0u);
  // It was an orphan before this mapper: it is not counted again.
  restoration_->ReadRegistry();
  RestoreAll({});
  EXPECT_EQ(orphaned(), 1u);
}

TEST_F(RestorationTest, ALaterRegistrationIsNotAnEarlierMappers) {
  StartAnew();
  // A worker is about to take it into custody.
  Connection connection = Connect();
  const RegistrationRef node = Register("hare", connection);
  RestoreAll({});
  EXPECT_EQ(Read(node).state, RegistrationState::kLive);
}

TEST_F(RestorationTest, AConnectionWhoseRegistrationEndsMeanwhileIsShutDown) {
  Connection connection = Connect();
  const RegistrationRef node = Register("hare", connection);
  StartAnew();
  restoration_->ReadRegistry();
  registry_->Unregister(node.slot, node.id);
  // The slot is another node's by now.
  Connection other = Connect();
  const RegistrationRef later = Register("hare", other);
  EXPECT_EQ(later.slot, node.slot);
  ASSERT_TRUE(custody_->HoldStored(later.slot, other.ours.get()));
  restoration_->Restore(OurEnds(connection));
  EXPECT_EQ(given_.size(), 0u);
  EXPECT_FALSE(IsOpen(connection));
  EXPECT_TRUE(IsOpen(other));
  EXPECT_EQ(custody_->DescriptorOf(later.slot), other.ours.get());
}

TEST_F(RestorationTest, AConnectionThatComesLateTakesItsOrphanBack) {
  Connection connection = Connect();
  const RegistrationRef node = Register("hare", connection);
  StartAnew();
  RestoreAll({});
  restoration_->RestoreLate(OurEnds(connection));
  ASSERT_EQ(given_.size(), 1u);
  EXPECT_EQ(Read(node).state, RegistrationState::kLive);
}

TEST_F(RestorationTest, AConnectionThatComesTwiceIsTakenOnce) {
  Connection connection = Connect();
  Register("hare", connection);
  std::vector<OwnedFd> twice;
  twice.emplace_back(dup(connection.ours.get()));
  twice.push_back(std::move(connection.ours));
  RestoreAll(std::move(twice));
  EXPECT_EQ(given_.size(), 1u);
  EXPECT_TRUE(IsOpen(connection));
}

TEST_F(RestorationTest, OnlyWhatNobodyWatchesIsOrphaned) {
  const RegistrationRef held = Hold("held");
  Connection lost_connection = Connect();
  const RegistrationRef lost = Register("lost", lost_connection);
  const RegistrationRef ended = Hold("ended");
  End(ended);
  restoration_->OrphanUnwatched({held, lost, ended});
  EXPECT_EQ(Read(held).state, RegistrationState::kLive);
  EXPECT_EQ(Read(lost).state, RegistrationState::kOrphaned);
  EXPECT_EQ(orphaned(), 1u);
  restoration_->OrphanUnwatched({lost});
  EXPECT_EQ(orphaned(), 1u);
}

}  // namespace
}  // namespace evermap
