// The system calls without which no mapper and no keeper can do anything, tried once at start: so that a
// filter of system calls (seccomp, of a container or a service) which forbids one leads to a line that
// names it, and not to a process that hangs, spins or ends without a word.
//
// What newer kernels have is not among them: where that is missing something else is done (docs/
// requirements.md).
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_PROCESS_NEEDED_CALLS_H_
#define EVERMAP_DAEMON_PROCESS_NEEDED_CALLS_H_

#include "absl/status/status.h"

namespace evermap {

// kFailedPrecondition: one cannot be made; the message is one line that names it. Each is made in a way
// that changes nothing, most of them with a descriptor that is none: then EBADF says that all is well.
absl::Status TryNeededCalls();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_NEEDED_CALLS_H_
