#include "daemon/process/reaper.h"

#include <sys/wait.h>

namespace evermap {

void Reaper::Reap(absl::FunctionRef<void(pid_t pid, int status)> tell) {
  due_ms_ = -1;
  int status = 0;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) tell(pid, status);
}

}  // namespace evermap
