// Tests of how the end of a child is looked at.
#include "daemon/process/process_fd.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace evermap {
namespace {

// A child that is ended by `signal`, or else exits with `code`; it has ended when this returns.
pid_t EndedChild(int code, int signal) {
  const pid_t child = fork();
  if (child == 0) {
    if (signal != 0) raise(signal);
    _exit(code);
  }
  siginfo_t info = {};
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  return child;
}

void ExpectTheSame(pid_t child) {
  const Child seen = LookAt(child);
  EXPECT_TRUE(seen.is_own);
  ASSERT_TRUE(seen.status.has_value());
  // It is still there to be waited for.
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(*seen.status, status);
  EXPECT_FALSE(LookAt(child).is_own);
}

TEST(LookAtTest, SaysHowAChildHasEnded) {
  ExpectTheSame(EndedChild(0, 0));
  ExpectTheSame(EndedChild(3, 0));
  ExpectTheSame(EndedChild(0, SIGKILL));
  ExpectTheSame(EndedChild(0, SIGTERM));
}

TEST(LookAtTest, KnowsWhoLivesAndWhoIsNoChild) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  EXPECT_TRUE(LookAt(child).is_own);
  EXPECT_FALSE(LookAt(child).status.has_value());
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_FALSE(LookAt(getpid()).is_own);
}

}  // namespace
}  // namespace evermap
