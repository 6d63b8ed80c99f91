// What is found out about nodes that this test plays.
#include "daemon/names/inquiry.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/custody/custody_testing.h"
#include "daemon/host/sock_diag.h"
#include "gtest/gtest.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

// A TCP socket that listens on a loopback address and a port of its own.
struct Listening {
  explicit Listening(uint32_t address_of_host = INADDR_LOOPBACK)
      : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(address_of_host);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd.get(), Any(), size), 0);
    EXPECT_EQ(listen(fd.get(), 8), 0);
    EXPECT_EQ(getsockname(fd.get(), Any(), &size), 0);
  }
  sockaddr* Any() { return reinterpret_cast<sockaddr*>(&address); }
  uint16_t port() const { return ntohs(address.sin_port); }
  uint64_t cookie() const { return SocketCookie(fd.get()); }

  OwnedFd fd;
  sockaddr_in address = {};
};

class InquiryTest : public CustodyFixture {
 protected:
  void SetUp() override {
    CustodyFixture::SetUp();
    if (HasFatalFailure()) return;
    inquiry_ = std::make_unique<Inquiry>(*registry_, *custody_, timers_);
  }
  void TearDown() override {
    inquiry_.reset();
    CustodyFixture::TearDown();
  }
  // A node that is connected to us, and says that it listens on `port`.
  RegistrationRef HoldNode(const std::string& name, uint16_t port) {
    Connection connection;
    connection.node = OwnedFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(connection.node.get(), mapper_.Any(), sizeof(mapper_.address)), 0);
    connection.ours = OwnedFd(accept4(mapper_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const RegistrationRef node = Register(name, connection, port);
    custody_->HoldStored(node.slot, connection.ours.get());
    connections_[node.id] = std::move(connection);
    return node;
  }
  void RunTimers() { timers_.RunDue(MonotonicCoarseMs()); }
  int TimeoutMs() const { return timers_.TimeoutMs(MonotonicCoarseMs()); }
  // Sleeps until there may be another search.
  static void AwaitSearch() { absl::SleepFor(absl::Milliseconds(Inquiry::kSearchIntervalMs + 20)); }

  Listening mapper_;
  Timers timers_;
  std::unique_ptr<Inquiry> inquiry_;
};

TEST_F(InquiryTest, TheUserAndTheDistributionSocketAreFoundAtOnce) {
  const Listening distribution;
  const RegistrationRef node = HoldNode("hare", distribution.port());
  inquiry_->Add(Read(node));
  EXPECT_EQ(Read(node).listener_cookie, distribution.cookie());
  EXPECT_EQ(Read(node).owner_uid, getuid());
  EXPECT_EQ(TimeoutMs(), -1);
}

TEST_F(InquiryTest, ASocketOfAnotherUserIsNotTheNodes) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be another user";
  ASSERT_EQ(seteuid(64101), 0);
  const Listening others;
  ASSERT_EQ(seteuid(0), 0);
  const RegistrationRef node = HoldNode("hare", others.port());
  inquiry_->Add(Read(node));
  EXPECT_EQ(Read(node).owner_uid, 0u);
  EXPECT_EQ(Read(node).listener_cookie, 0u);
  // Nor is it when all sockets are searched.
  RunTimers();
  EXPECT_EQ(Read(node).listener_cookie, 0u);
}

TEST_F(InquiryTest, OfAnOrphanWithoutAUserTheOnlySocketOnItsPortIsTaken) {
  const Listening distribution;
  const RegistrationRef node = HoldNode("hare", distribution.port());
  inquiry_->SearchDistributionSocket(node);
  RunTimers();
  EXPECT_EQ(Read(node).listener_cookie, 0u);
  ASSERT_TRUE(registry_->Orphan(node.slot, node.id));
  inquiry_->SearchDistributionSocket(node);
  AwaitSearch();
  RunTimers();
  EXPECT_EQ(Read(node).listener_cookie, distribution.cookie());
}

TEST_F(InquiryTest, ANodeMayListenOnAnotherAddress) {
  const Listening distribution(INADDR_LOOPBACK + 1);  // 127.0.0.2
  const RegistrationRef node = HoldNode("hare", distribution.port());
  inquiry_->Add(Read(node));
  EXPECT_EQ(Read(node).listener_cookie, 0u);
  EXPECT_EQ(TimeoutMs(), 0);
  RunTimers();
  EXPECT_EQ(Read(node).listener_cookie, distribution.cookie());
}

TEST_F(InquiryTest, SearchesAreRare) {
  // No socket listens there: this one is bound only.
  const OwnedFd bound(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(bound.get(), any, size), 0);
  ASSERT_EQ(getsockname(bound.get(), any, &size), 0);
  const RegistrationRef node = HoldNode("hare", ntohs(address.sin_port));
  inquiry_->SearchDistributionSocket(node);
  EXPECT_EQ(TimeoutMs(), 0);
  RunTimers();
  EXPECT_EQ(Read(node).listener_cookie, 0u);
  // It is looked for once, and the next search is a while later.
  EXPECT_EQ(TimeoutMs(), -1);
  inquiry_->SearchDistributionSocket(node);
  EXPECT_GT(TimeoutMs(), Inquiry::kSearchIntervalMs / 2);
}

TEST_F(InquiryTest, OfANodeThatHasLeftNothingIsFoundOut) {
  const RegistrationRef node = HoldNode("hare", 1);
  inquiry_->AskForUser(node);
  inquiry_->SearchDistributionSocket(node);
  End(node);
  // The name is another node's meanwhile, in the same slot.
  const RegistrationRef again = HoldNode("hare", mapper_.port());
  EXPECT_EQ(again.slot, node.slot);
  RunTimers();
  EXPECT_EQ(Read(again).owner_uid, kUnknownUid);
  EXPECT_EQ(Read(again).listener_cookie, 0u);
  EXPECT_EQ(TimeoutMs(), -1);
}

TEST_F(InquiryTest, OfManyUsersAFewAreAskedForInATurn) {
  constexpr int kNodes = Inquiry::kUsersPerTurn + 1;
  std::vector<RegistrationRef> nodes;
  for (int i = 0; i < kNodes; ++i) {
    nodes.push_back(HoldNode(absl::StrCat("node", i), 1));
    inquiry_->AskForUser(nodes.back());
  }
  RunTimers();
  EXPECT_EQ(Read(nodes[kNodes - 2]).owner_uid, getuid());
  EXPECT_EQ(Read(nodes[kNodes - 1]).owner_uid, kUnknownUid);
  EXPECT_EQ(TimeoutMs(), 0);
  RunTimers();
  EXPECT_EQ(Read(nodes[kNodes - 1]).owner_uid, getuid());
}

}  // namespace
}  // namespace evermap
