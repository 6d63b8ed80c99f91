// Ports of this host, on which somebody listens or not.
#include "daemon/host/loopback_probe.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "daemon/host/tcp_pair_for_test.h"

namespace evermap {
namespace {

TEST(LoopbackProbeTest, SomebodyListensOrNobody) {
  auto listener = std::make_unique<LoopbackListener>();
  const uint16_t port = ntohs(listener->address.sin_port);
  EXPECT_EQ(ProbeLoopback(port), ProbeResult::kAccepted);
  listener = nullptr;
  EXPECT_EQ(ProbeLoopback(port), ProbeResult::kRefused);
}

TEST(LoopbackProbeTest, OnIpv6Alone) {
  OwnedFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (!fd.valid() || bind(fd.get(), any, size) != 0) GTEST_SKIP() << "no IPv6 here";
  ASSERT_EQ(listen(fd.get(), 8), 0);
  ASSERT_EQ(getsockname(fd.get(), any, &size), 0);
  EXPECT_EQ(ProbeLoopback(ntohs(address.sin6_port)), ProbeResult::kAccepted);
}

TEST(LoopbackProbeTest, WhoIsTooBusyToAcceptListens) {
  const LoopbackListener listener;
  ASSERT_EQ(listen(listener.fd.get(), 0), 0);
  // More connections than its queue takes; those that are not taken stay half open.
  std::vector<OwnedFd> waiting;
  for (int i = 0; i < 4; ++i) {
    waiting.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int result =
        connect(waiting.back().get(), reinterpret_cast<const sockaddr*>(&listener.address),
                sizeof(listener.address));
    EXPECT_TRUE(result == 0 || errno == EINPROGRESS);
  }
  EXPECT_EQ(ProbeLoopback(ntohs(listener.address.sin_port)), ProbeResult::kAccepted);
}

// A port from which the kernel takes those of outgoing connections: now and then a socket is
// connected to itself, when nobody listens.
TEST(LoopbackProbeTest, ASocketIsNotTakenForItsOwnPeer) {
  uint16_t port = 0;
  {
    const LoopbackListener listener;
    port = ntohs(listener.address.sin_port);
  }
  for (int i = 0; i < 40'000; ++i) ASSERT_EQ(ProbeLoopback(port), ProbeResult::kRefused) << i;
}

}  // namespace
}  // namespace evermap
