#include "daemon/process/launch.h"

#include <linux/close_range.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "daemon/process/launch_plan.h"

namespace evermap {

namespace {

struct Starting {
  LaunchPlan& plan;
  pid_t pid;  // of the new process, or -1
  int error;
};

void* ForkAndExecute(void* of_starting) {
  auto& starting = *static_cast<Starting*>(of_starting);
  starting.pid = fork();
  starting.error = errno;
  if (starting.pid == 0) starting.plan.ExecuteOrExit();
  return nullptr;
}

// In a thread of its own, whose table of descriptors is a copy of what is passed, so that fork(2)
// does not copy thousands of others which the child would close again.
void* ForkWithShortTable(void* of_starting) {
  const unsigned end = static_cast<Starting*>(of_starting)->plan.sources_end();
  // A kernel before 5.9, which does not know that call, has the child close them all.
  close_range(end, ~0u, CLOSE_RANGE_UNSHARE);
  return ForkAndExecute(of_starting);
}

}  // namespace

absl::StatusOr<pid_t> Start(const Launch& launch) {
  LaunchPlan plan(launch);
  Starting starting = {.plan = plan, .pid = -1, .error = 0};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, ForkWithShortTable, &starting) == 0) {
    pthread_join(thread, nullptr);
  } else {
    ForkAndExecute(&starting);
  }
  if (starting.pid > 0) return starting.pid;
  return absl::ErrnoToStatus(starting.error, absl::StrCat("no process for ", launch.program));
}

absl::Status Replace(const Launch& launch) {
  LaunchPlan plan(launch);
  return absl::ErrnoToStatus(plan.Execute(/*unblocks_signals=*/false), launch.program);
}

}  // namespace evermap
