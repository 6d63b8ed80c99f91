#include "daemon/names/disputes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/host/tcp_pair_for_test.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

using testing::HasSubstr;

class DisputesTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    auto registry = Registry::Open({.path = absl::StrCat(directory_, "/registry"), .capacity = 8});
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    custody_.emplace(8, 8, wake_fd_.get());
    disputes_.SetWakeFd(wake_fd_.get());
  }
  ~DisputesTest() override { std::filesystem::remove_all(directory_); }

  RegistrationRef Register(uint16_t port, uint64_t listener_cookie) {
    const RegisterResult result = registry_->Register({.name = "rabbit",
                                                       .port = port,
                                                       .listener_cookie = listener_cookie,
                                                       .owner_uid = geteuid()});
    EXPECT_EQ(result.outcome, RegisterResult::Outcome::kRegistered);
    return {result.slot, result.id};
  }

  Dispute Ask(const RegistrationRef& holder, uint16_t port = 1) {
    return {.place = disputes_.Ask({.fd = pair_.server.get(),
                                    .port = port,
                                    .name = "rabbit",
                                    .holder = holder,
                                    .wake_worker = &wake_worker_}),
            .was_asked = true};
  }

  bool IsRegistered() {
    Registration found;
    return registry_->Lookup("rabbit", found);
  }

  char directory_[32] = "/dev/shm/disputes-test-XXXXXX";
  const OwnedFd wake_fd_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::unique_ptr<Registry> registry_;
  std::optional<Custody> custody_;
  SocketQuery query_{SocketQuery::Fallback::kNone};
  Disputes disputes_;
  TcpPair pair_;
  int wakes_ = 0;
  const std::function<void()> wake_worker_ = [this] { ++wakes_; };
};

TEST_F(DisputesTest, TellsWhoHoldsTheNameAndWhoAsks) {
  const LoopbackListener listener;
  const uint16_t port = ntohs(listener.address.sin_port);
  const RegistrationRef holder = Register(port, SocketCookie(listener.fd.get()));
  const Dispute dispute = Ask(holder);
  ASSERT_NE(dispute.place, Dispute::kNoPlace);
  EXPECT_FALSE(disputes_.HasLooked(dispute.place));
  disputes_.Settle(*registry_, *custody_, query_);
  EXPECT_EQ(wakes_, 1);
  ASSERT_TRUE(disputes_.HasLooked(dispute.place));
  const std::string& text = disputes_.TextOf(dispute.place);
  EXPECT_THAT(text, HasSubstr(absl::StrCat("user ", geteuid())));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("process ", getpid(), ",")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("at port ", port)));
  EXPECT_THAT(text, HasSubstr("connected"));
  EXPECT_THAT(text, HasSubstr("from 127.0.0.1"));
  EXPECT_TRUE(IsRegistered());
  disputes_.Release(dispute);
}

TEST_F(DisputesTest, SaysThatTheHolderIsAnOrphan) {
  const RegistrationRef holder = Register(4711, 0);
  ASSERT_TRUE(registry_->Orphan(holder.slot, holder.id));
  const Dispute dispute = Ask(holder);
  disputes_.Settle(*registry_, *custody_, query_);
  EXPECT_THAT(disputes_.TextOf(dispute.place), HasSubstr("orphaned"));
  disputes_.Release(dispute);
}

TEST_F(DisputesTest, EndsAHolderThatIsProvedNotToListen) {
  LoopbackListener listener;
  const uint16_t port = ntohs(listener.address.sin_port);
  const RegistrationRef holder = Register(port, SocketCookie(listener.fd.get()));
  listener.fd = OwnedFd();
  disputes_.Release([&] {
    const Dispute dispute = Ask(holder);
    disputes_.Settle(*registry_, *custody_, query_);
    return dispute;
  }());
  EXPECT_FALSE(IsRegistered());
}

TEST_F(DisputesTest, EndsNobodyWhoseSocketWasNeverKnown) {
  const RegistrationRef holder = Register(1, 0);
  const Dispute dispute = Ask(holder);
  disputes_.Settle(*registry_, *custody_, query_);
  EXPECT_TRUE(IsRegistered());
  disputes_.Release(dispute);
}

TEST_F(DisputesTest, EndsNobodyWhileTheSameUserListensOnThePortUnlessItIsTheAskers) {
  const LoopbackListener listener;
  const uint16_t port = ntohs(listener.address.sin_port);
  const RegistrationRef holder = Register(port, SocketCookie(listener.fd.get()) + 1'000'000);
  Dispute dispute = Ask(holder);
  disputes_.Settle(*registry_, *custody_, query_);
  EXPECT_TRUE(IsRegistered());
  disputes_.Release(dispute);
  dispute = Ask(holder, port);
  disputes_.Settle(*registry_, *custody_, query_);
  EXPECT_FALSE(IsRegistered());
  disputes_.Release(dispute);
}

TEST_F(DisputesTest, EndsNobodyBeforeAllConnectionsHaveCome) {
  const RegistrationRef holder = Register(1, 1'000'000'000);
  custody_->SetAwaited(1, 1);
  const Dispute dispute = Ask(holder);
  disputes_.Settle(*registry_, *custody_, query_);
  EXPECT_TRUE(IsRegistered());
  disputes_.Release(dispute);
}

TEST_F(DisputesTest, HasSoManyPlacesAndWaiters) {
  const RegistrationRef holder = Register(1, 0);
  std::vector<Dispute> all;
  for (size_t i = 0; i < Disputes::kPlaces; ++i) all.push_back(Ask(holder));
  EXPECT_EQ(Ask(holder).place, Dispute::kNoPlace);
  for (size_t i = 0; i < Disputes::kWaitersMax; ++i) EXPECT_TRUE(disputes_.Enter(all[i]));
  EXPECT_FALSE(disputes_.Enter(all[Disputes::kWaitersMax]));
  EXPECT_TRUE(disputes_.Enter(all[0]));
  for (const Dispute& one : all) {
    EXPECT_TRUE(disputes_.Withdraw(one.place));
    disputes_.Release(one);
  }
  Dispute again = Ask(holder);
  EXPECT_NE(again.place, Dispute::kNoPlace);
  EXPECT_TRUE(disputes_.Enter(again));
  disputes_.Settle(*registry_, *custody_, query_);
  EXPECT_EQ(wakes_, 1);
}

}  // namespace
}  // namespace evermap
