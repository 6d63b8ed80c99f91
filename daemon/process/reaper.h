// The children of a process that have ended, and are released some time later.
//
//   if (signal == SIGCHLD) reaper.OnChildEnd(now_ms);
//   if (reaper.wake_ms() >= 0 && now_ms >= reaper.wake_ms()) reaper.Reap([](pid_t, int) {});
//
// To release one may take the kernel more than ten milliseconds, since there is an entry of /proc to
// remove for each descriptor that somebody has listed: a monitor lists them all. They would be taken
// from the mapper that is started in its place.
//
// Thread safety: one thread.
#ifndef EVERMAP_DAEMON_PROCESS_REAPER_H_
#define EVERMAP_DAEMON_PROCESS_REAPER_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace evermap {

class Reaper {
 public:
  // By then the next mapper has answered who has waited for it.
  static constexpr int64_t kDelayMs = 100;

  // `now_ms` is MonotonicCoarseMs().
  void OnChildEnd(int64_t now_ms) {
    if (due_ms_ < 0) due_ms_ = now_ms + kDelayMs;
  }
  // When Reap() is due, MonotonicCoarseMs(); -1: nothing has ended. It is due at the beginning, since
  // a program may have been executed in the place of one that had not yet released its children.
  int64_t wake_ms() const { return due_ms_; }
  // Releases all children that have ended, and tells of each; `status` is what waitpid(2) gives.
  void Reap(absl::FunctionRef<void(pid_t pid, int status)> tell);

 private:
  int64_t due_ms_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_REAPER_H_
