// Which addresses a mapper listens on, and what keeps it from that.
#include "daemon/mapper/listeners.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

using ::testing::HasSubstr;

uint16_t PortOf(int fd) {
  sockaddr_in6 address = {};
  socklen_t size = sizeof(address);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin6_port);  // which lies where that of IPv4 does
}

TEST(ListenersTest, AreOfTheAddressesThatAreAskedFor) {
  Options options;
  options.port = 0;  // any free one
  options.addresses = {"127.0.0.1"};
  const auto one = BindListeners(options);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_EQ(one->size(), 1u);

  options.port = PortOf(one->front().get());
  const auto again = BindListeners(options);
  EXPECT_TRUE(absl::IsAlreadyExists(again.status())) << again.status();
}

TEST(ListenersTest, SayWhichAddressCannotBeHad) {
  Options options;
  options.port = 0;
  options.addresses = {"127.0.0.1", "no-address"};
  EXPECT_THAT(BindListeners(options).status().ToString(),
              HasSubstr("no-address is not an IP address"));
  options.addresses = {"192.0.2.1"};  // of no host (RFC 5737)
  EXPECT_THAT(BindListeners(options).status().ToString(), HasSubstr("-address"));
}

}  // namespace
}  // namespace evermap
