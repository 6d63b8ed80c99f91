// A process between a predecessor and the successor that it starts: the watcher waits for the
// successor and ends as that ended.
//
// systemd waits for the end of a main process only if that is its own child when it hears of it
// (MAINPID=); another one it kills right after it has told it to end. So a successor must be
// systemd's child before it tells systemd of itself: it ends its watcher, and as an orphan gets
// systemd, or our keeper, as its parent. Without a watcher its parent would be the predecessor,
// which is needed until the commit.
//
//   predecessor -> watcher -> successor            Watched StartWatched()
//   predecessor    (watcher killed)    successor   EndWatcher(), called by the successor
#ifndef EVERMAP_DAEMON_PROCESS_WATCHER_H_
#define EVERMAP_DAEMON_PROCESS_WATCHER_H_

#include <sys/types.h>

#include "absl/status/statusor.h"
#include "daemon/process/launch.h"
#include "registry/base/owned_fd.h"

namespace evermap {

struct Watched {
  pid_t watcher = 0;  // the caller's child, for waitpid(2); 0: none was started
  pid_t pid = 0;      // of the new process
  OwnedFd process;    // the same (process_fd.h)
};

// As Start(), but through a watcher. The new process finds the watcher's id as
// variables::kWatcherPid.
absl::StatusOr<Watched> StartWatched(const Launch& launch);

// To be called by the new process: ends its watcher and waits until that is not its parent any
// more. `watcher` is what it found as variables::kWatcherPid; nothing happens when that process is
// not its parent.
void EndWatcher(pid_t watcher);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_WATCHER_H_
