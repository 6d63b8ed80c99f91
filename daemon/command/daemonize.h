// -daemon: going on without the terminal, the directory and the descriptors of whoever started
// this.
#ifndef EVERMAP_DAEMON_COMMAND_DAEMONIZE_H_
#define EVERMAP_DAEMON_COMMAND_DAEMONIZE_H_

#include "absl/functional/function_ref.h"

namespace evermap {

// Runs `serve` in a process of its own session. Returns in the calling process, with the exit code:
// 0 once `serve` has called ready(), else that of `serve`. The new process has the caller's
// standard streams until it lets go of them. Does not return in the new process. REQUIRES: no other
// threads.
int RunDetached(absl::FunctionRef<int(absl::FunctionRef<void()> ready)> serve);

// Leaves the starter's terminal and pipes alone from here on.
void LetGoOfStandardStreams();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_DAEMONIZE_H_
