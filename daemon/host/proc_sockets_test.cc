// Lines of /proc/net/tcp, and the file of this host.
#include "daemon/host/proc_sockets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "daemon/host/sock_diag.h"
#include "daemon/host/tcp_pair_for_test.h"

namespace evermap {
namespace {

constexpr char kListening[] =
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 "
    "12345 1 0000000000000000 100 0 0 10 0                     ";

TEST(ProcSocketTest, ALine) {
  const auto socket = ParseProcSocket(kListening, AF_INET);
  ASSERT_TRUE(socket.has_value());
  EXPECT_EQ(socket->state, TCP_LISTEN);
  EXPECT_EQ(socket->here.port, htons(8080));
  EXPECT_EQ(socket->here.address[0], htonl(INADDR_LOOPBACK));
  EXPECT_EQ(socket->uid, 1000u);
  EXPECT_EQ(socket->inode, 12345u);
}

TEST(ProcSocketTest, AConnectionOfIpv4OnASocketOfIpv6) {
  const auto socket = ParseProcSocket(
      "   1: 0000000000000000FFFF00000100007F:1111 0000000000000000FFFF00000100007F:C001 01 "
      "00000000:00000000 00:00000000 00000000     0        0 77 1 0000000000000000 20 4 30 10 -1",
      AF_INET6);
  ASSERT_TRUE(socket.has_value());
  EXPECT_EQ(socket->here.family, AF_INET);
  EXPECT_EQ(socket->here.address[0], htonl(INADDR_LOOPBACK));
  EXPECT_EQ(socket->there.port, htons(0xC001));
}

TEST(ProcSocketTest, WhatIsNoSocket) {
  for (const char* line :
       {"", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid",
        "0: 0100007F:1F90", "0: 0100007F:1F90 0100007G:0000 0A x x x 0 0 1",
        "0: 0100007F:1F901 0100007F:0000 0A x x x 0 0 1",
        "0: 0100007F 0100007F:0000 0A x x x 0 0 1",
        "0: 0100007F:1F90 0100007F:0000 0A x x x -1 0 1"}) {
    EXPECT_FALSE(ParseProcSocket(line, AF_INET).has_value()) << line;
  }
  EXPECT_FALSE(ParseProcSocket(kListening, AF_INET6).has_value());
}

TEST(ProcSocketTest, OfThisHost) {
  const LoopbackListener listener;
  bool is_found = false;
  const auto look = [&](const ProcSocket& socket) {
    EXPECT_EQ(socket.state, TCP_LISTEN);
    is_found = socket.here.port == listener.address.sin_port &&
               socket.here.address[0] == listener.address.sin_addr.s_addr;
    EXPECT_TRUE(!is_found || socket.uid == geteuid());
    return !is_found;
  };
  ASSERT_EQ(ReadProcSockets(ProcSockets::kListening, look), 0);
  EXPECT_TRUE(is_found);
}

TEST(ProcSocketTest, SocketsOfBothFamiliesThatListenAreVisited) {
  const LoopbackListener v4;
  const OwnedFd v6(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!v6.valid() || listen(v6.get(), 8) != 0) GTEST_SKIP() << "no IPv6 here";
  const TcpPair connected;  // stands behind those that listen
  int v4_count = 0;
  int v6_count = 0;
  ASSERT_EQ(ReadProcSockets(ProcSockets::kListening,
                            [&](const ProcSocket& socket) {
                              ++(socket.here.family == AF_INET ? v4_count : v6_count);
                              return true;
                            }),
            0);
  EXPECT_GE(v4_count, 1);
  EXPECT_GE(v6_count, 1);
}

}  // namespace
}  // namespace evermap
