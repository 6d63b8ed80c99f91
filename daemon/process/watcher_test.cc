// A watcher ends as the program does that it has started, and is ended only by that.
#include "daemon/process/watcher.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/process/launch_testing.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

TEST(WatcherTest, ItEndsAsTheProgramDid) {
  auto started = StartWatched(Shell("exit 7"));
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(WEXITSTATUS(StatusOf(started->watcher)), 7);
  started = StartWatched(Shell("kill -USR1 $$"));
  ASSERT_TRUE(started.ok()) << started.status();
  const int status = StatusOf(started->watcher);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGUSR1);
  Launch launch = Shell("");
  launch.program = "/nonexistent/program";
  started = StartWatched(launch);
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(WEXITSTATUS(StatusOf(started->watcher)), kExitNotExecuted);
}

TEST(WatcherTest, AProcessThatIsNoWatcherIsLeftAlone) {
  // None, init, and one that is not the parent of this process.
  for (const pid_t pid : {0, 1, getpid()}) EndWatcher(pid);
}

TEST(WatcherTest, TheProgramKnowsItsWatcherAndEndsIt) {
  auto ends = NotifyPair();
  ASSERT_TRUE(ends.ok());
  Launch launch = Shell(absl::StrCat("echo $", variables::kWatcherPid,
                                     ",$PPID >&3; kill -KILL $PPID; read line <&3"));
  launch.links = {{"LINK", ends->second.get()}};
  const auto started = StartWatched(launch);
  ASSERT_TRUE(started.ok()) << started.status();
  ends->second = OwnedFd();
  Notification message;
  ASSERT_EQ(AwaitNotification(ends->first.get(), message, kPatience), Received::kMessage);
  EXPECT_EQ(message.text, absl::StrCat(started->watcher, ",", started->watcher, "\n"));
  const int status = StatusOf(started->watcher);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  // The program itself lives on, until it reads the end of the link.
  ends->first = OwnedFd();
  EXPECT_EQ(AwaitNotification(started->process.get(), message, kPatience), Received::kClosed);
}

TEST(WatcherTest, WhatCannotBeExecutedIsSaidOnTheFirstLink) {
  auto ends = NotifyPair();
  ASSERT_TRUE(ends.ok());
  Launch launch = Shell("");
  launch.program = "/nonexistent/program";
  launch.links = {{"LINK", ends->second.get()}};
  const auto started = StartWatched(launch);
  ASSERT_TRUE(started.ok()) << started.status();
  Notification message;
  ASSERT_EQ(AwaitNotification(ends->first.get(), message, kPatience), Received::kMessage);
  EXPECT_EQ(message.Get(words::kNotExecuted), "002");
  EXPECT_EQ(WEXITSTATUS(StatusOf(started->watcher)), kExitNotExecuted);
}

}  // namespace
}  // namespace evermap
