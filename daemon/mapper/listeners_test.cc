// Which addresses a mapper listens on, and what keeps it from that.
#include "daemon/mapper/listeners.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/host/steady_time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "registry/base/owned_fd.h"

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

// Somebody holds the port, does `hold` meanwhile, and is gone after a time that is longer than one
// attempt to ask it takes.
void ExpectBoundWhenFree(const std::function<void(int listener, absl::Time end)>& hold) {
  Options options;
  options.port = 0;
  options.addresses = {"127.0.0.1"};
  auto held = BindListeners(options);
  ASSERT_TRUE(held.ok()) << held.status();
  options.port = PortOf(held->front().get());
  const absl::Time end = SteadyNow() + absl::Milliseconds(1300);
  std::thread holder([&held, &hold, end] {
    hold(held->front().get(), end);
    held->clear();
  });
  const auto bound = BindListeners(options);
  holder.join();
  EXPECT_TRUE(bound.ok()) << bound.status();
}

TEST(ListenersTest, AreTakenFromAHolderThatIsDeafAndDies) {
  ExpectBoundWhenFree([](int /*listener*/, absl::Time end) { absl::SleepFor(end - SteadyNow()); });
}

TEST(ListenersTest, AreTakenFromAHolderThatEndsConnectionsAndDies) {
  ExpectBoundWhenFree([](int listener, absl::Time end) {
    while (SteadyNow() < end) {
      pollfd waited{.fd = listener, .events = POLLIN, .revents = 0};
      if (poll(&waited, 1, 10) <= 0) continue;
      const OwnedFd connection(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
      std::array<std::byte, 16> request;
      // It is read, so that the connection ends as a whole reply does, and is not reset.
      EXPECT_GT(recv(connection.get(), request.data(), request.size(), 0), 0);
    }
  });
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
