// Messages between a mapper and its store, also where one of them does not read, is gone, or says
// what the other does not expect.
#include "daemon/custody/notify.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/custody/words.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kNoPatience = absl::Milliseconds(20);

class NotifyTest : public testing::Test {
 protected:
  void SetUp() override {
    auto ends = NotifyPair();
    ASSERT_TRUE(ends.ok()) << ends.status();
    ours_ = std::move(ends->first);
    theirs_ = std::move(ends->second);
  }
  // Until the other side takes no more.
  void Fill() const {
    while (SendNotification(ours_.get(), "more") == 0) {
    }
  }
  static OwnedFd File() { return OwnedFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

  OwnedFd ours_;
  OwnedFd theirs_;
  Notification message_;
};

TEST_F(NotifyTest, Lines) {
  Notification message;
  message.text = "A=1\nAB=2\nC\n=3\nD=\nA=4\n\nE=x=y";
  EXPECT_EQ(message.Get("A"), "1");
  EXPECT_EQ(message.Get("AB"), "2");
  EXPECT_EQ(message.Get("C"), std::nullopt);
  EXPECT_EQ(message.Get("D"), "");
  EXPECT_EQ(message.Get("E"), "x=y");
  EXPECT_EQ(message.Get("B"), std::nullopt);
}

TEST_F(NotifyTest, Words) {
  Notification message;
  message.text = "READY=1\nMAINPID=7\nREADY=0";
  EXPECT_TRUE(message.Says(words::kReady));
  EXPECT_FALSE(message.Says("READY=0"));  // the first line with a key counts
  EXPECT_FALSE(message.Says("READY="));
  EXPECT_FALSE(message.Says("READY=11"));
  EXPECT_FALSE(message.Says(words::kStopping));
  EXPECT_EQ(message.Get(words::kMainPid), "7");
  EXPECT_DEATH(static_cast<void>(message.Says(words::kMainPid)), "npos");
}

TEST_F(NotifyTest, AMessageInItsBounds) {
  EXPECT_DEATH(SendNotification(ours_.get(), ""), "empty");
  EXPECT_DEATH(SendNotification(ours_.get(), std::string(kNotifyTextMax + 1, 'x')), "TextMax");
  const std::vector<int> fds(kNotifyFdsMax + 1, ours_.get());
  EXPECT_DEATH(SendNotification(ours_.get(), "x", fds), "FdsMax");
  EXPECT_EQ(SendNotification(ours_.get(), std::string(kNotifyTextMax, 'x')), 0);
  EXPECT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.text.size(), kNotifyTextMax);
}

TEST_F(NotifyTest, TextAndDescriptorsComeThrough) {
  const OwnedFd file = File();
  const std::array<int, 3> fds = {file.get(), file.get(), file.get()};
  EXPECT_EQ(SendNotification(ours_.get(), words::kStore, fds), 0);
  EXPECT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.text, words::kStore);
  ASSERT_THAT(message_.fds, SizeIs(3));
  struct stat sent;
  struct stat got;
  ASSERT_EQ(fstat(file.get(), &sent), 0);
  for (const OwnedFd& fd : message_.fds) {
    ASSERT_EQ(fstat(fd.get(), &got), 0);
    EXPECT_EQ(got.st_rdev, sent.st_rdev);
    EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kNothing);
  EXPECT_THAT(message_.fds, SizeIs(0));
}

TEST_F(NotifyTest, WhoDoesNotListen) {
  Fill();
  EXPECT_EQ(SendNotification(ours_.get(), "more"), EAGAIN);
  EXPECT_EQ(SendNotificationPatiently(ours_.get(), "more", {}, kNoPatience), EAGAIN);
  while (ReceiveNotification(theirs_.get(), message_) == Received::kMessage) {
  }
  EXPECT_EQ(SendNotificationPatiently(ours_.get(), "more", {}, kPatience), 0);
}

TEST_F(NotifyTest, WhoSaysNothing) {
  EXPECT_EQ(AwaitNotification(ours_.get(), message_, kNoPatience), Received::kNothing);
  EXPECT_EQ(AwaitNotification(ours_.get(), message_, -kPatience), Received::kNothing);
}

TEST_F(NotifyTest, WhoIsGone) {
  EXPECT_EQ(SendNotification(theirs_.get(), "last words"), 0);
  theirs_ = OwnedFd();
  EXPECT_EQ(SendNotificationPatiently(ours_.get(), "more", {}, kPatience), EPIPE);
  EXPECT_EQ(AwaitNotification(ours_.get(), message_, kPatience), Received::kMessage);
  EXPECT_EQ(message_.text, "last words");
  EXPECT_EQ(AwaitNotification(ours_.get(), message_, kPatience), Received::kClosed);
}

TEST_F(NotifyTest, WhatIsNoSocket) {
  const OwnedFd file = File();
  EXPECT_EQ(SendNotification(file.get(), "more"), ENOTSOCK);
  EXPECT_EQ(ReceiveNotification(file.get(), message_), Received::kClosed);
  EXPECT_EQ(AwaitNotification(-1, message_, kPatience), Received::kClosed);
}

TEST_F(NotifyTest, AddressesOfSystemd) {
  for (const std::string& address :
       {std::string(), std::string("/"), std::string("relative"), std::string("vsock:2:1"),
        absl::StrCat("/", std::string(sizeof(sockaddr_un::sun_path), 'x'))}) {
    const auto connected = ConnectToNotifySocket(address);
    EXPECT_TRUE(absl::IsInvalidArgument(connected.status())) << address;
    EXPECT_THAT(std::string(connected.status().message()), HasSubstr("neither a path nor"));
  }
  EXPECT_TRUE(absl::IsNotFound(ConnectToNotifySocket("/nonexistent/socket").status()));

  // An abstract name, which is the test's own.
  const std::string name = absl::StrCat("@evermap-notify-test-", getpid());
  EXPECT_FALSE(ConnectToNotifySocket(name).ok());
  const OwnedFd manager(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un bound = {};
  bound.sun_family = AF_UNIX;
  name.copy(bound.sun_path, name.size());
  bound.sun_path[0] = '\0';
  ASSERT_EQ(bind(manager.get(), reinterpret_cast<const sockaddr*>(&bound),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
            0);
  const auto connected = ConnectToNotifySocket(name);
  ASSERT_TRUE(connected.ok()) << connected.status();
  EXPECT_EQ(SendNotification(connected->get(), words::kReady), 0);
  EXPECT_EQ(ReceiveNotification(manager.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.text, words::kReady);
}

TEST_F(NotifyTest, DescriptorsThatThereIsNoRoomForAreMissed) {
  const OwnedFd file = File();
  const std::vector<int> fds(3, file.get());
  ASSERT_EQ(SendNotification(ours_.get(), words::kStore, fds), 0);
  ASSERT_EQ(SendNotification(ours_.get(), words::kStore, fds), 0);
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  {
    const OwnedFd lowest = File();
    rlimit tight = limit;
    tight.rlim_cur = static_cast<rlim_t>(lowest.get()) + 1;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  }
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(message_.Says(words::kStore));
  EXPECT_TRUE(message_.has_lost_fds);
  EXPECT_THAT(message_.fds, SizeIs(1));
  // The next one is whole.
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_FALSE(message_.has_lost_fds);
  EXPECT_THAT(message_.fds, SizeIs(3));
}

TEST_F(NotifyTest, TheKernelTellsWhoHasSentIt) {
  ASSERT_EQ(SendNotification(ours_.get(), "early"), 0);
  AskForSender(theirs_.get());
  ASSERT_EQ(SendNotification(ours_.get(), "MAINPID=1"), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(SendNotification(ours_.get(), "MAINPID=1", {ours_.get()}));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.sender_pid, 0);
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.sender_pid, getpid());
  EXPECT_EQ(message_.text, "MAINPID=1");
  // Also of one that has ended, and beside descriptors.
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_EQ(message_.sender_pid, child);
  EXPECT_THAT(message_.fds, SizeIs(1));
  EXPECT_FALSE(message_.has_lost_fds);
}

TEST_F(NotifyTest, AMessageWithASenderHasRoomForAllDescriptors) {
  AskForSender(theirs_.get());
  const OwnedFd file = File();
  const std::vector<int> fds(kNotifyFdsMax, file.get());
  ASSERT_EQ(SendNotification(ours_.get(), words::kStore, fds), 0);
  ASSERT_EQ(ReceiveNotification(theirs_.get(), message_), Received::kMessage);
  EXPECT_THAT(message_.fds, SizeIs(kNotifyFdsMax));
  EXPECT_FALSE(message_.has_lost_fds);
  EXPECT_EQ(message_.sender_pid, getpid());
}

}  // namespace
}  // namespace evermap
