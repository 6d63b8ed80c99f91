#include "daemon/process/watcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/host/close_from.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/launch_plan.h"
#include "daemon/process/process_fd.h"

namespace evermap {
namespace {

// How often, and how many times, a process looks whether its killed watcher is still its parent:
// for a second in all, though the kernel needs some microseconds.
constexpr useconds_t kOrphanedPauseUs = 200;
constexpr int kOrphanedAttemptsMax = 5000;

// Blocks until something is written to the other end of `fd`, or that is closed.
void AwaitOtherEnd(int fd) {
  char nothing;
  while (read(fd, &nothing, sizeof(nothing)) < 0 && errno == EINTR) {
  }
}

// Ends this process in the way that `status`, as waitpid(2) gives it, tells.
[[noreturn]] void EndLike(int status) {
  if (WIFSIGNALED(status)) {
    // The process itself has left a core dump; a second one would be of this one.
    prctl(PR_SET_DUMPABLE, 0);
    const int number = WTERMSIG(status);
    signal(number, SIG_DFL);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, nullptr);
    raise(number);
  }
  _exit(WEXITSTATUS(status));
}

// The life of a watcher; uses only what signal-safety(7) allows. It tells the process id of the new
// process through `link`, or minus the errno why there is none, and does not wait for that process
// before the other side has closed the link: until then no other process can get the id. The new
// process executes its program only when its id is told, since it may then end its watcher.
[[noreturn]] void Watch(LaunchPlan& plan, int link) {
  int told[2] = {-1, -1};
  plan.SetWatcher(getpid());
  pid_t pid = pipe2(told, O_CLOEXEC) == 0 ? fork() : -1;
  if (pid == 0) {
    close(told[1]);
    AwaitOtherEnd(told[0]);
    plan.ExecuteOrExit();
  }
  if (pid < 0) pid = -errno;
  FaultPoint("watcher:started");
  if (write(link, &pid, sizeof(pid)) != sizeof(pid) || pid < 0) _exit(kExitNotExecuted);
  // Everything else is closed: the pipe, whose end says that the id is told; the nodes'
  // connections, which could not be closed as long as this process has them; and the links, whose
  // end would not be noticed.
  dup2(link, LaunchPlan::kFirst);
  CloseFrom(LaunchPlan::kFirst + 1);
  AwaitOtherEnd(LaunchPlan::kFirst);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  EndLike(status);
}

// What the watcher tells through `link`: a process id, or minus an errno; 0 when it has died.
pid_t ReadTold(int link) {
  pid_t pid = 0;
  ssize_t got;
  do {
    got = read(link, &pid, sizeof(pid));
  } while (got < 0 && errno == EINTR);
  return got == sizeof(pid) ? pid : 0;
}

}  // namespace

absl::StatusOr<Watched> StartWatched(const Launch& launch) {
  LaunchPlan plan(launch);
  const auto failed = [&launch](int error) {
    return absl::ErrnoToStatus(error, absl::StrCat("no process for ", launch.program));
  };
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed(errno);
  // Closed when this returns, which the watcher waits for.
  const OwnedFd link(ends[0]);
  OwnedFd its_end(ends[1]);
  const pid_t watcher = fork();
  if (watcher < 0) return failed(errno);
  if (watcher == 0) {
    close(ends[0]);
    Watch(plan, ends[1]);
  }
  its_end = OwnedFd();
  absl::Status status;
  const pid_t pid = ReadTold(link.get());
  if (pid > 0) {
    Watched started{.watcher = watcher, .pid = pid, .process = OpenProcess(pid)};
    if (started.process.valid()) return started;
    status = failed(errno);
    kill(pid, SIGKILL);
  } else if (pid < 0) {
    status = failed(-pid);
  } else {
    status = absl::AbortedError(
        absl::StrCat("no process for ", launch.program, ": who was to start it was killed"));
  }
  kill(watcher, SIGKILL);
  while (waitpid(watcher, nullptr, 0) < 0 && errno == EINTR) {
  }
  return status;
}

void EndWatcher(pid_t watcher) {
  // A parent is alive or a zombie, so its id is no other process's.
  if (watcher <= 1 || getppid() != watcher) return;
  kill(watcher, SIGKILL);
  for (int i = 0; i < kOrphanedAttemptsMax && getppid() == watcher; ++i) usleep(kOrphanedPauseUs);
}

}  // namespace evermap
