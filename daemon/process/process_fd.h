// Another process as a descriptor: its end can be polled for, and signals reach it and no other.
//
//   const OwnedFd process = OpenProcess(pid);
//   ... poll(2) `process` for reading ...
//   if (HasEnded(process.get(), pid)) ...
//
// That is a pidfd, which Linux has since 5.3. Where there is none (an older kernel, or a filter of
// system calls) it is a timer that is due every kLookMs, at which the process is looked for by its
// id: its end is noticed a little later, and a signal could in theory reach another process that has
// got the id within kLookMs. Linux gives an id anew only when all others have been used.
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_PROCESS_PROCESS_FD_H_
#define EVERMAP_DAEMON_PROCESS_PROCESS_FD_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "registry/base/owned_fd.h"

namespace evermap {

inline constexpr int64_t kLookMs = 20;

// Invalid with errno ESRCH when there is no such process, with another errno when there is no
// descriptor.
OwnedFd OpenProcess(pid_t pid);
// The first thread of process `pid`, opened as `process`: it becomes readable as soon as that thread ends,
// which may be long before the kernel has closed what the process had. Invalid where the kernel has no such
// thing (before Linux 6.9), and when the id is another process's by now.
OwnedFd OpenFirstThread(pid_t pid, int process);
// Whether process `pid`, opened as `process`, has ended. Makes a descriptor that is readable for
// another reason unreadable again.
bool HasEnded(int process, pid_t pid);
struct Child {
  bool is_own = false;
  std::optional<int> status = std::nullopt;  // as waitpid(2) gives it; nothing: it has not ended
};
// Whether process `pid` is a child of this one, and how it has ended. Does not release it, as waitpid(2)
// does (reaper.h says why).
Child LookAt(pid_t pid);
// Returns 0 or an errno; ESRCH: it has ended.
int SignalProcess(int process, pid_t pid, int signal);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_PROCESS_FD_H_
