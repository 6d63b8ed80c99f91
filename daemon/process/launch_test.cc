// What a program finds that is started with descriptors, and what is said when it cannot be
// executed.
#include "daemon/process/launch.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/process/launch_testing.h"
#include "gtest/gtest.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_end = OwnedFd(ends[0]);
    write_end = OwnedFd(ends[1]);
  }
  // All that is written until every process has closed the other end.
  std::string ReadAll() {
    write_end = OwnedFd();
    std::string text;
    std::array<char, 256> part;
    ssize_t got;
    while ((got = read(read_end.get(), part.data(), part.size())) > 0) {
      text.append(part.data(), static_cast<size_t>(got));
    }
    return text;
  }
  OwnedFd read_end;
  OwnedFd write_end;
};

// The exit code of `run` in a child of this process, where descriptors may be moved about.
template <typename Run>
int CodeInChild(Run run) {
  const pid_t pid = fork();
  if (pid == 0) _exit(run());
  const int status = StatusOf(pid);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST(LaunchTest, EnvironmentAsOfSystemd) {
  setenv("LISTEN_FDNAMES", "of:somebody:else", 1);
  setenv(variables::kKeeperLink, "99", 1);
  setenv("EPMD_LAUNCH_TEST", "kept", 1);
  Pipe pipe;
  Launch launch = Shell(
      "echo "
      "\"$LISTEN_FDS,$LINK,$EVERMAP_KEEPER,$LISTEN_FDNAMES,$EPMD_LAUNCH_TEST,$ADDED,$LISTEN_PID,"
      "$$\" >&4");
  launch.environment = {"ADDED=1"};
  launch.descriptors = {STDIN_FILENO, pipe.write_end.get()};
  launch.links = {{"LINK", STDERR_FILENO}};
  const auto pid = Start(launch);
  unsetenv("LISTEN_FDNAMES");
  unsetenv(variables::kKeeperLink);
  unsetenv("EPMD_LAUNCH_TEST");
  ASSERT_TRUE(pid.ok()) << pid.status();
  EXPECT_EQ(pipe.ReadAll(), absl::StrCat("3,5,,,kept,1,", *pid, ",", *pid, "\n"));
  EXPECT_EQ(StatusOf(*pid), 0);
}

TEST(LaunchTest, DescriptorsInEachOthersPlaces) {
  std::array<Pipe, 3> sources;
  for (size_t i = 0; i < sources.size(); ++i) {
    const std::string line = absl::StrCat("source", i, "\n");
    ASSERT_EQ(write(sources[i].write_end.get(), line.data(), line.size()),
              static_cast<ssize_t>(line.size()));
  }
  constexpr int kFar = 100;
  // The numbers that the three sources have before; they are to get 3, 4 and 5.
  for (const std::array<int, 3>& before : std::initializer_list<std::array<int, 3>>{
           {3, 4, 5}, {4, 3, 5}, {5, 4, 3}, {4, 5, 3}, {5, 3, 4}, {kFar, 3, 4}, {4, 5, kFar}}) {
    Pipe pipe;
    EXPECT_EQ(CodeInChild([&] {
                // Copied to numbers above all others first, so that no source is overwritten.
                std::array<int, 4> moved = {};
                for (size_t i = 0; i < sources.size(); ++i) {
                  moved[i] = fcntl(sources[i].read_end.get(), F_DUPFD_CLOEXEC, kFar + 10);
                }
                moved[3] = fcntl(pipe.write_end.get(), F_DUPFD_CLOEXEC, kFar + 10);
                for (size_t i = 0; i < before.size(); ++i) dup2(moved[i], before[i]);
                // The shell reads a byte at a time, so nothing that follows a line is lost.
                Launch launch = Shell("read a <&3; read b <&4; read c <&5; echo $a $b $c >&6");
                launch.descriptors = {before[0], before[1], before[2], moved[3]};
                const auto pid = Start(launch);
                return pid.ok() ? WEXITSTATUS(StatusOf(*pid)) : 99;
              }),
              0);
    EXPECT_EQ(pipe.ReadAll(), "source0 source1 source2\n");
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string line = absl::StrCat("source", i, "\n");
      ASSERT_EQ(write(sources[i].write_end.get(), line.data(), line.size()),
                static_cast<ssize_t>(line.size()));
    }
  }
}

TEST(LaunchTest, WhatCannotBeExecuted) {
  auto ends = NotifyPair();
  ASSERT_TRUE(ends.ok());
  Launch launch = Shell("exit 0");
  launch.program = "/nonexistent/program";
  launch.links = {{"LINK", ends->second.get()}};
  const auto pid = Start(launch);
  ASSERT_TRUE(pid.ok()) << pid.status();
  Notification message;
  ASSERT_EQ(AwaitNotification(ends->first.get(), message, kPatience), Received::kMessage);
  EXPECT_EQ(message.Get(words::kNotExecuted), "002");
  EXPECT_EQ(WEXITSTATUS(StatusOf(*pid)), kExitNotExecuted);
  // Without a link only the exit code tells it.
  launch.links.clear();
  const auto second = Start(launch);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(WEXITSTATUS(StatusOf(*second)), kExitNotExecuted);
}

TEST(LaunchTest, DescriptorsThatAreNone) {
  Launch launch = Shell("exit 0");
  for (const std::vector<int>& none : {std::vector<int>{-1}, std::vector<int>{kExitNotExecuted}}) {
    launch.descriptors = none;
    EXPECT_EQ(CodeInChild([&] {
                close_range(3, ~0u, 0);
                const auto pid = Start(launch);
                return pid.ok() ? WEXITSTATUS(StatusOf(*pid)) : 99;
              }),
              kExitNotExecuted);
  }
}

TEST(LaunchTest, AProgramInPlaceOfThisOne) {
  Pipe pipe;
  EXPECT_EQ(CodeInChild([&] {
              Launch launch = Shell("echo $LISTEN_FDS >&3; exit 7");
              launch.descriptors = {pipe.write_end.get()};
              static_cast<void>(Replace(launch));
              return 99;
            }),
            7);
  EXPECT_EQ(pipe.ReadAll(), "1\n");
  EXPECT_EQ(CodeInChild([] {
              Launch launch = Shell("");
              launch.program = "/nonexistent/program";
              return absl::IsNotFound(Replace(launch)) ? 5 : 99;
            }),
            5);
  EXPECT_EQ(CodeInChild([] {
              Launch launch = Shell("exit 6");
              launch.otherwise = std::exchange(launch.program, "/nonexistent/program");
              static_cast<void>(Replace(launch));
              return 99;
            }),
            6);
}

}  // namespace
}  // namespace evermap
