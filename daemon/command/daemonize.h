// -daemon: going on without the terminal, the directory and the standard streams of the process
// that has started this one.
#ifndef EVERMAP_DAEMON_COMMAND_DAEMONIZE_H_
#define EVERMAP_DAEMON_COMMAND_DAEMONIZE_H_

#include "absl/functional/function_ref.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// Runs `serve` in a new process of its own session. Returns in the calling process, as soon as
// `serve` has called ready() or has returned, with the exit code: 0 after ready(), else what
// `serve` returned, 1 if the new process died or could not be made. In the new process it does not
// return. That process has the caller's standard streams until LetGoOfStandardStreams(). To be
// called before other threads start, which the new process would not have.
int RunDetached(absl::FunctionRef<int(absl::FunctionRef<void()> ready)> serve);

// /dev/null, to be opened before it is needed: later there may be no descriptor. Where there is none, what
// can be neither read nor written. Invalid, and said, when there is no descriptor now.
OwnedFd OpenNullDevice();

// Replaces the standard streams by it, if it is valid, so that the starter's terminal is left alone and
// the reader of a pipe sees its end.
void LetGoOfStandardStreams(OwnedFd null_device);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_DAEMONIZE_H_
