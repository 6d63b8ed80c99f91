// What a client makes of other sides that are no mapper, say too little, or nothing.
#include "daemon/wire/client.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <thread>

#include "daemon/wire/tcp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using namespace std::string_view_literals;

// What a test does not wait for, and what it does.
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kNoPatience = absl::Milliseconds(20);

// Listens on a port of its own, and does to each that connects what `End` says, after `reply`.
class OtherSide {
 public:
  enum class End { kClose, kReset, kNone };

  explicit OtherSide(std::string_view reply, End end = End::kClose)
      : reply_(reply), end_(end), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener_.get(), any, size), 0);
    EXPECT_EQ(listen(listener_.get(), 16), 0);
    EXPECT_EQ(getsockname(listener_.get(), any, &size), 0);
    port_ = ntohs(address.sin_port);
    if (end_ != End::kNone) {
      thread_ = std::thread([this] { Serve(); });
    }
  }
  ~OtherSide() {
    shutdown(listener_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
  }

  uint16_t port() const { return port_; }
  Client client(absl::Duration timeout = kPatience) const {
    return Client("127.0.0.1", port_, {.timeout = timeout});
  }

 private:
  void Serve() const {
    while (true) {
      const OwnedFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection.valid()) return;
      std::array<char, protocol::kFrameSizeMax> request;
      EXPECT_GT(recv(connection.get(), request.data(), request.size(), 0), 0);
      if (end_ == End::kReset) {
        const linger at_once = {1, 0};
        setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
      }
      EXPECT_EQ(send(connection.get(), reply_.data(), reply_.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(reply_.size()));
    }
  }

  std::string reply_;
  End end_;
  OwnedFd listener_;
  uint16_t port_ = 0;
  std::thread thread_;
};

absl::StatusCode LookupCode(std::string_view reply) {
  return OtherSide(reply).client().Lookup("hare").status().code();
}
absl::StatusCode NamesCode(std::string_view reply) {
  return OtherSide(reply).client().Names().status().code();
}
absl::StatusCode RegisterCode(std::string_view reply) {
  return OtherSide(reply).client().Register({.port = 1, .name = "hare"}).status().code();
}

TEST(ClientTest, Lookups) {
  EXPECT_EQ(LookupCode(""), absl::StatusCode::kDataLoss);
  EXPECT_EQ(LookupCode("w"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LookupCode("HTTP/1.1 400 Bad Request\r\n"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LookupCode("w\0\1"sv), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LookupCode("w\1"), absl::StatusCode::kNotFound);
  EXPECT_EQ(LookupCode("w\1more"), absl::StatusCode::kInvalidArgument);
  const auto node = OtherSide("w\0\x12\x34M\0\0\6\0\5\0\4hare\0\2ab"sv).client().Lookup("hare");
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ(node->port, 0x1234);
  EXPECT_EQ(node->name, "hare");
  EXPECT_EQ(node->extra, "ab");
}

TEST(ClientTest, Names) {
  EXPECT_EQ(NamesCode(""), absl::StatusCode::kDataLoss);
  EXPECT_EQ(NamesCode("abc"), absl::StatusCode::kDataLoss);
  for (const std::string_view garbage :
       {"\0\0\0\1garbage\n"sv, "\0\0\0\1name hare at port 1"sv, "\0\0\0\1name hare at port x\n"sv,
        "\0\0\0\1name hare at port 65536\n"sv, "\0\0\0\1name hare\n"sv}) {
    EXPECT_EQ(NamesCode(garbage), absl::StatusCode::kInvalidArgument) << garbage;
  }
  const auto names =
      OtherSide("\0\0\0\1name a at port b at port 7\nname hare at port 8\n"sv).client().Names();
  ASSERT_TRUE(names.ok()) << names.status();
  ASSERT_THAT(*names, SizeIs(2));
  EXPECT_EQ(names->front().name, "a at port b");
  EXPECT_EQ(names->back().port, 8);
}

TEST(ClientTest, Kill) {
  EXPECT_TRUE(OtherSide("OK").client().Kill().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(OtherSide("NO").client().Kill()));
  EXPECT_TRUE(absl::IsDataLoss(OtherSide("O").client().Kill()));
}

TEST(ClientTest, Stop) {
  EXPECT_TRUE(OtherSide("STOPPED").client().Stop("hare").ok());
  EXPECT_TRUE(absl::IsNotFound(OtherSide("NOEXIST").client().Stop("hare")));
  EXPECT_TRUE(absl::IsNotFound(OtherSide("NOEXISTSTOPPED").client().Stop("hare")));
  EXPECT_TRUE(absl::IsDataLoss(OtherSide("").client().Stop("hare")));
  EXPECT_TRUE(absl::IsInvalidArgument(OtherSide("nothing").client().Stop("hare")));
}

TEST(ClientTest, Register) {
  EXPECT_EQ(RegisterCode(""), absl::StatusCode::kDataLoss);
  EXPECT_EQ(RegisterCode("v\0\0"sv), absl::StatusCode::kDataLoss);
  EXPECT_EQ(RegisterCode("q\0\0\0"sv), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RegisterCode("v\1\0\0\0\x63"sv), absl::StatusCode::kAlreadyExists);
  const auto with_long = OtherSide("v\0\1\2\3\4"sv).client().Register({.port = 1, .name = "hare"});
  ASSERT_TRUE(with_long.ok()) << with_long.status();
  EXPECT_EQ(with_long->creation(), 0x01020304u);
  const auto with_short = OtherSide("y\0\0\2"sv).client().Register({.port = 1, .name = "hare"});
  ASSERT_TRUE(with_short.ok()) << with_short.status();
  EXPECT_EQ(with_short->creation(), 2u);
}

TEST(ClientTest, WhatCannotBeAsked) {
  const Client client("127.0.0.1", 1);
  for (const std::string& name : {std::string(), std::string("a\0b"sv), std::string(1021, 'x')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(client.Lookup(name).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(client.Stop(name)));
    EXPECT_TRUE(absl::IsInvalidArgument(client.Register({.name = name}).status()));
  }
  const std::string extra(1021, 'x');
  EXPECT_TRUE(absl::IsInvalidArgument(client.Register({.name = "a", .extra = extra}).status()));
}

TEST(ClientTest, NobodyAnswers) {
  const OtherSide silent("", OtherSide::End::kNone);
  const Client client = silent.client(kNoPatience);
  EXPECT_TRUE(absl::IsDeadlineExceeded(client.Lookup("hare").status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client.Names().status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client.Dump().status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client.Kill()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client.Stop("hare")));
  EXPECT_TRUE(absl::IsDeadlineExceeded(client.Register({.name = "hare"}).status()));
}

TEST(ClientTest, NobodyListens) {
  uint16_t port = 0;
  {
    const OtherSide gone("", OtherSide::End::kNone);
    port = gone.port();
  }
  const absl::Status status = Client("127.0.0.1", port).Register({.name = "hare"}).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(ErrnoOf(status), ECONNREFUSED);
  EXPECT_EQ(ErrnoOf(absl::UnknownError("of no system call")), 0);
}

TEST(ClientTest, WhereNobodyCanBe) {
  EXPECT_TRUE(absl::IsInvalidArgument(Client("", 1).Lookup("hare").status()));
  // An address of all hosts is none of a connection.
  const absl::Status status = Client("255.255.255.255", 1).Lookup("hare").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(ErrnoOf(status), 0);
}

TEST(ClientTest, Resets) {
  const OtherSide other("", OtherSide::End::kReset);
  const absl::Status status = other.client().Lookup("hare").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(ErrnoOf(status), ECONNRESET);
}

TEST(ClientTest, NoDescriptors) {
  const OtherSide other("w\1");
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = other.client().Lookup("hare").status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("ulimit -n"));
}

class PairTest : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    ours_ = OwnedFd(ends[0]);
    theirs_ = OwnedFd(ends[1]);
  }
  // More than any socket buffers.
  const std::string much_ = std::string(size_t{16} << 20, 'x');
  absl::Span<const std::byte> much() const {
    return {reinterpret_cast<const std::byte*>(much_.data()), much_.size()};
  }
  OwnedFd ours_;
  OwnedFd theirs_;
};

TEST_F(PairTest, SendsToWhoReadsSlowly) {
  std::string received;
  std::thread reader([&] {
    EXPECT_TRUE(ReceiveUpTo(theirs_.get(), much_.size(), Waiter("they", kPatience), received).ok());
  });
  EXPECT_TRUE(SendAll(ours_.get(), much(), Waiter("they", kPatience)).ok());
  reader.join();
  EXPECT_TRUE(received == much_);
}

TEST_F(PairTest, SendsToWhoDoesNotRead) {
  EXPECT_TRUE(absl::IsDeadlineExceeded(SendAll(ours_.get(), much(), Waiter("they", kNoPatience))));
  // What one says at the end is there to be read, whether one has listened to all or not.
  theirs_ = OwnedFd();
  EXPECT_TRUE(SendAll(ours_.get(), much(), Waiter("they", kPatience)).ok());
}

TEST(TcpTest, WhatIsNoConnection) {
  const OwnedFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  std::string received;
  const std::array<std::byte, 1> byte = {};
  const absl::Status sent = SendAll(file.get(), byte, Waiter("nobody", kPatience));
  EXPECT_EQ(ErrnoOf(sent), ENOTSOCK) << sent;
  const absl::Status got = ReceiveUpTo(file.get(), 1, Waiter("nobody", kPatience), received);
  EXPECT_EQ(ErrnoOf(got), ENOTSOCK) << got;
  EXPECT_THAT(std::string(got.message()), HasSubstr("nobody: no whole reply"));
}

TEST(TcpTest, ConnectionsAreMovedAndClosed) {
  const OtherSide other("", OtherSide::End::kNone);
  const Waiter waiter("they", kPatience);
  auto first = Connect("127.0.0.1", other.port(), waiter);
  auto second = Connect("127.0.0.1", other.port(), waiter);
  ASSERT_TRUE(first.ok() && second.ok());
  const int fd = second->fd();
  *first = *std::move(second);
  EXPECT_EQ(first->fd(), fd);
}

}  // namespace
}  // namespace evermap
