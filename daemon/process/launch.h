// Starting a program with descriptors, as systemd does (sd_listen_fds(3)): they are numbers 3, 4,
// ... there, LISTEN_FDS says how many and LISTEN_PID for whom.
//
//   Launch launch{.program = path, .arguments = {"epmd"}, .descriptors = {listening_fd}};
//   launch.links.emplace_back("EVERMAP_KEEPER", link_fd);
//   absl::StatusOr<pid_t> pid = Start(launch);
//
// Where there are many, pass them in ascending order: then none has to be moved out of another's
// way, which takes a free number above all of them for each that is.
//
// Links are further descriptors, put behind the others and counted in LISTEN_FDS; the variable of
// that name says which number one has.
#ifndef EVERMAP_DAEMON_PROCESS_LAUNCH_H_
#define EVERMAP_DAEMON_PROCESS_LAUNCH_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"

namespace evermap {

struct Launch {
  std::string program;  // path
  // Where to find it when it is not there any more: /proc has no program of who has died. May be
  // "".
  std::string otherwise = {};
  std::vector<std::string> arguments;
  // NAME=VALUE. Of the caller's environment all is passed on but LISTEN_* and EVERMAP_*.
  std::vector<std::string> environment;
  std::vector<int> descriptors;
  std::vector<std::pair<std::string, int>> links;
};

// The new process's id. It has no signal blocked, and none of the caller's other descriptors but 0
// to 2. When the program cannot be executed, it sends "ERRNO=N" to the first link, if there is one,
// and exits with kExitNotExecuted. May be called in a process with several threads.
absl::StatusOr<pid_t> Start(const Launch& launch);
inline constexpr int kExitNotExecuted = 127;

// As Start(), through a process between that waits for the new one and ends as it ended.
//
// systemd waits for the end of a main process only if it is its own child when it hears of it
// (MAINPID=), and kills another one right after it has told it to end. So the new process has to
// become an orphan before: it gets rid of the watcher, and systemd, or the keeper, is its parent.
struct Watched {
  pid_t watcher = 0;  // the caller's child; for waitpid(2)
  OwnedFd process;    // a pidfd of the new process
};
absl::StatusOr<Watched> StartWatched(const Launch& launch);
// In the new process, of which the watcher is not the parent any more afterwards. `watcher` is what
// it was told as EVERMAP_WATCHER; nothing happens when somebody else is the parent already.
void EndWatcher(pid_t watcher);

// Executes the program in place of this one, with the same signals blocked. Comes back only to say
// why it did not: the descriptors of this process are then not what they were, so that it can do no
// better than end.
absl::Status Replace(const Launch& launch);

// The file that this process was started from, as it was named then. $EVERMAP_BINARY, which
// processes of ours set for each other, or else what /proc says.
std::string OwnProgram();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_LAUNCH_H_
