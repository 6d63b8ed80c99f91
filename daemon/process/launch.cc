#include "daemon/process/launch.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "daemon/process/launch_plan.h"

namespace evermap {

absl::StatusOr<pid_t> Start(const Launch& launch) {
  LaunchPlan plan(launch);
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, absl::StrCat("no process for ", launch.program));
  if (pid == 0) plan.ExecuteOrExit();
  return pid;
}

absl::Status Replace(const Launch& launch) {
  LaunchPlan plan(launch);
  return absl::ErrnoToStatus(plan.Execute(/*unblocks_signals=*/false), launch.program);
}

}  // namespace evermap
