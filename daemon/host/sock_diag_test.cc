// What the kernel tells of sockets that this test has opened.
#include "daemon/host/sock_diag.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

sockaddr_storage SocketAddress(const char* text, uint16_t port = 0) {
  sockaddr_storage address = {};
  auto& v4 = reinterpret_cast<sockaddr_in&>(address);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
  if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
  } else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
  }
  return address;
}

// A socket that listens on a port of its own; not valid on a host without the family.
class Listening {
 public:
  explicit Listening(const char* text, uint16_t port = 0) {
    const sockaddr_storage address = SocketAddress(text, port);
    OwnedFd fd(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        listen(fd.get(), 8) != 0) {
      return;
    }
    fd_ = std::move(fd);
    sockaddr_storage own = {};
    socklen_t size = sizeof(own);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&own), &size), 0);
    // At the same place in both families.
    port_ = ntohs(reinterpret_cast<const sockaddr_in&>(own).sin_port);
  }
  bool valid() const { return fd_.valid(); }
  uint16_t port() const { return port_; }
  uint64_t cookie() const { return SocketCookie(fd_.get()); }
  int fd() const { return fd_.get(); }

 private:
  OwnedFd fd_;
  uint16_t port_ = 0;
};

OwnedFd ConnectedTo(const char* text, uint16_t port) {
  const sockaddr_storage address = SocketAddress(text, port);
  OwnedFd fd(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0)
      << ErrorText(errno);
  return fd;
}

TEST(ListenersTest, APortOfSeveralIsNobodys) {
  Listeners listeners;
  listeners.Add(1, 100, 1000, 7);
  listeners.Add(1, 100, 1000, 7);
  listeners.Add(2, 200, 2000, 7);
  listeners.Add(2, 201, 2001, 7);
  listeners.Add(2, 200, 2000, 7);
  ASSERT_TRUE(listeners.OnlyOneOn(1).has_value());
  EXPECT_EQ(listeners.OnlyOneOn(1)->cookie, 100u);
  EXPECT_EQ(listeners.OnlyOneOn(1)->uid, 7u);
  EXPECT_FALSE(listeners.OnlyOneOn(2).has_value());
  EXPECT_FALSE(listeners.OnlyOneOn(3).has_value());
  EXPECT_EQ(listeners.InodeOf(201), 2001u);
  EXPECT_EQ(listeners.InodeOf(300), 0u);
  EXPECT_TRUE(listeners.Has(201));
  EXPECT_FALSE(listeners.Has(300));
}

TEST(ListenersTest, OfThisHost) {
  uint64_t cookie = 0;
  {
    const Listening listening("127.0.0.1");
    ASSERT_TRUE(listening.valid());
    cookie = listening.cookie();
    const auto listeners = ReadListeners();
    ASSERT_TRUE(listeners.ok()) << listeners.status();
    EXPECT_TRUE(listeners->Has(cookie));
    EXPECT_NE(listeners->InodeOf(cookie), 0u);
    const auto only = listeners->OnlyOneOn(listening.port());
    ASSERT_TRUE(only.has_value());
    EXPECT_EQ(only->cookie, cookie);
    EXPECT_EQ(only->uid, geteuid());
  }
  const auto listeners = ReadListeners();
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  EXPECT_FALSE(listeners->Has(cookie));
}

// Cookies of what a connection to `port` of `address` would go to; 0: nothing.
uint64_t CookieFor(SocketQuery& query, const sockaddr_storage& address, uint16_t port) {
  const auto found = query.ListenerFor(address, port);
  if (!found.has_value()) return 0;
  EXPECT_EQ(found->uid, geteuid());
  return found->cookie;
}

TEST(SocketQueryTest, WhereAConnectionWouldGo) {
  SocketQuery query(SocketQuery::Fallback::kNone);
  const Listening one("127.0.0.1");
  const Listening any("0.0.0.0");
  ASSERT_TRUE(one.valid() && any.valid());
  EXPECT_EQ(CookieFor(query, SocketAddress("127.0.0.1"), one.port()), one.cookie());
  EXPECT_EQ(CookieFor(query, SocketAddress("::ffff:127.0.0.1"), one.port()), one.cookie());
  EXPECT_EQ(CookieFor(query, SocketAddress("127.0.0.2"), one.port()), 0u);
  EXPECT_EQ(CookieFor(query, SocketAddress("127.0.0.2"), any.port()), any.cookie());
  const sockaddr_storage no_address = {};
  EXPECT_EQ(CookieFor(query, no_address, one.port()), 0u);
  const Listening v6("::1");
  if (!v6.valid()) GTEST_SKIP() << "no IPv6 here";
  EXPECT_EQ(CookieFor(query, SocketAddress("::1"), v6.port()), v6.cookie());
}

TEST(SocketQueryTest, AllThatListenOnAPort) {
  SocketQuery query(SocketQuery::Fallback::kNone);
  const Listening one("127.0.0.1");
  const Listening two("127.0.0.2", one.port());
  const Listening elsewhere("127.0.0.1");
  ASSERT_TRUE(one.valid() && two.valid() && elsewhere.valid());
  const auto found = query.ListenersOn(one.port());
  ASSERT_TRUE(found.ok()) << found.status();
  std::vector<uint64_t> cookies;
  for (const TcpListener& socket : *found) {
    EXPECT_EQ(socket.uid, geteuid());
    cookies.push_back(socket.cookie);
  }
  EXPECT_THAT(cookies, testing::UnorderedElementsAre(one.cookie(), two.cookie()));
}

TEST(SocketQueryTest, WhoseAConnectionIs) {
  SocketQuery query(SocketQuery::Fallback::kNone);
  for (const char* address : {"127.0.0.1", "::1"}) {
    const Listening listening(address);
    if (!listening.valid()) continue;
    OwnedFd there = ConnectedTo(address, listening.port());
    const OwnedFd here(accept4(listening.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_EQ(query.PeerUid(here.get()), geteuid()) << address;
    // What waits to be closed is nobody's.
    there = OwnedFd();
    EXPECT_EQ(query.PeerUid(here.get()), kUnknownUid) << address;
    EXPECT_EQ(query.PeerUid(listening.fd()), kUnknownUid) << address;
  }
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const OwnedFd first(ends[0]);
  const OwnedFd second(ends[1]);
  EXPECT_EQ(query.PeerUid(first.get()), kUnknownUid);
}

}  // namespace
}  // namespace evermap
