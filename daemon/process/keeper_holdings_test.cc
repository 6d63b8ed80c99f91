// What a keeper holds: sockets where their events are seen, files by their names, and ready sets.
#include "daemon/process/keeper_holdings.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "registry/base/file_identity.h"

namespace evermap {
namespace {

class KeeperHoldingsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(directory_), nullptr); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  OwnedFd File(int number) const {
    const std::string path = absl::StrCat(directory_, "/", number);
    return OwnedFd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }
  static OwnedFd Listener() {
    OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(listen(fd.get(), 1), 0);  // on a free port
    return fd;
  }
  // Of a connection one end; that of the node, which stays open.
  OwnedFd Connection() {
    const OwnedFd listener = Listener();
    sockaddr_in address = {};
    socklen_t size = sizeof(address);
    EXPECT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    nodes_.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(nodes_.back().get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    return OwnedFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  int EventOf() const {
    epoll_event event = {};
    return epoll_wait(epoll_fd_.get(), &event, 1, 1000) == 1 ? event.data.fd : -1;
  }

  char directory_[40] = "/tmp/evermap-holdings-XXXXXX";
  OwnedFd epoll_fd_ = OwnedFd(epoll_create1(EPOLL_CLOEXEC));
  std::vector<OwnedFd> nodes_;
  KeeperHoldings holdings_ = KeeperHoldings(epoll_fd_.get());
};

TEST_F(KeeperHoldingsTest, WhoStartsAMapperGetsThemInOrder) {
  holdings_.HoldFile(File(1));
  holdings_.Hold(Connection());
  holdings_.Hold(Listener());
  EXPECT_EQ(holdings_.sockets(), 2u);
  const std::vector<int> all = holdings_.All();
  EXPECT_EQ(all.size(), 3u);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
  const std::vector<int> low = holdings_.AllButConnections();
  EXPECT_EQ(low.size(), 2u);
  EXPECT_TRUE(std::is_sorted(low.begin(), low.end()));
  const std::vector<int> connections = holdings_.Connections();
  ASSERT_EQ(connections.size(), 1u);
  EXPECT_GT(connections[0], low.back());
}

TEST_F(KeeperHoldingsTest, AConnectionThatEndsIsSeenAndLetGo) {
  holdings_.Hold(Connection());
  const int held = holdings_.Sockets().at(0);
  // As the mapper does that ends the connection, which has it, too.
  ASSERT_EQ(shutdown(held, SHUT_RDWR), 0);
  nodes_.clear();
  EXPECT_EQ(EventOf(), held);
  EXPECT_TRUE(holdings_.Holds(held));
  holdings_.LetGo(held);
  EXPECT_FALSE(holdings_.Holds(held));
  EXPECT_EQ(fcntl(held, F_GETFD), -1);
}

TEST_F(KeeperHoldingsTest, OneThatCannotBeWatchedIsNotHeld) {
  KeeperHoldings blind(-1);
  blind.Hold(Connection());
  EXPECT_EQ(blind.sockets(), 0u);
}

TEST_F(KeeperHoldingsTest, FilesAreHeldOnceAndNotWithoutEnd) {
  constexpr size_t kMore = 20;  // than it holds of files with different names
  for (size_t i = 0; i < kMore; ++i) {
    holdings_.HoldAll(
        [&] {
          std::vector<OwnedFd> twice;
          twice.push_back(File(static_cast<int>(i)));
          twice.push_back(File(static_cast<int>(i)));
          return twice;
        }(),
        /*are_sockets=*/false);
  }
  const size_t held = holdings_.Files().size();
  EXPECT_GE(held, 4u);
  EXPECT_LT(held, kMore);
  holdings_.LetGoOfFile(StoredName(File(0).get()));
  EXPECT_EQ(holdings_.Files().size(), held - 1);
  holdings_.LetGoOfFiles();
  EXPECT_TRUE(holdings_.Files().empty());
}

TEST_F(KeeperHoldingsTest, ReadySetsAreThoseOfOneMapper) {
  holdings_.HoldReadySets({});
  for (int i = 0; i < 2; ++i) {
    std::vector<OwnedFd> sets;
    sets.emplace_back(epoll_create1(EPOLL_CLOEXEC));
    holdings_.HoldReadySets(std::move(sets));
  }
  EXPECT_EQ(holdings_.ReadySets().size(), 1u);
  EXPECT_EQ(holdings_.TakeReadySets().size(), 1u);
  EXPECT_TRUE(holdings_.ReadySets().empty());
}

}  // namespace
}  // namespace evermap
