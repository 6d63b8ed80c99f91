// Children that have ended are released, each once, and not before the time.
#include "daemon/process/reaper.h"

#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "gtest/gtest.h"

namespace evermap {
namespace {

pid_t StartChild(int exit_code) {
  const pid_t pid = fork();
  if (pid == 0) _exit(exit_code);
  return pid;
}

// Waits for its end, and does not release it.
void AwaitEnd(pid_t pid) {
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
}

TEST(ReaperTest, IsDueSomeTimeAfterTheFirstEnd) {
  Reaper reaper;
  EXPECT_EQ(reaper.wake_ms(), 0);
  reaper.Reap([](pid_t, int) { FAIL() << "there is no child"; });
  EXPECT_EQ(reaper.wake_ms(), -1);
  reaper.OnChildEnd(1000);
  reaper.OnChildEnd(1090);
  EXPECT_EQ(reaper.wake_ms(), 1000 + Reaper::kDelayMs);
  reaper.Reap([](pid_t, int) { FAIL() << "there is no child"; });
  EXPECT_EQ(reaper.wake_ms(), -1);
}

TEST(ReaperTest, ReleasesAllThatHaveEnded) {
  const pid_t first = StartChild(3);
  const pid_t second = StartChild(4);
  ASSERT_GT(first, 0);
  ASSERT_GT(second, 0);
  AwaitEnd(first);
  AwaitEnd(second);
  Reaper reaper;
  reaper.OnChildEnd(0);
  std::map<pid_t, int> ended;
  reaper.Reap([&ended](pid_t pid, int status) { ended[pid] = WEXITSTATUS(status); });
  EXPECT_EQ(ended, (std::map<pid_t, int>{{first, 3}, {second, 4}}));
  EXPECT_EQ(waitpid(first, nullptr, WNOHANG), -1);
  EXPECT_EQ(waitpid(second, nullptr, WNOHANG), -1);
}

}  // namespace
}  // namespace evermap
