// Starting a program with descriptors, as systemd does (sd_listen_fds(3)): the new process finds
// them as numbers 3, 4, ..., LISTEN_FDS says how many they are and LISTEN_PID for which process.
//
//   Launch launch{.program = path, .arguments = {"epmd"}, .descriptors = {listening_fd}};
//   launch.links.emplace_back(variables::kKeeperLink, link_fd);
//   absl::StatusOr<pid_t> pid = Start(launch);
//
// Many descriptors should be passed in ascending order: then none of them stands on a number that
// an earlier one is to get. Each that does is moved out of the way first, to a free number above
// all of them, and there is none when the process has as many descriptors as its limit allows.
//
// A process with thousands of descriptors should pass those with the lowest numbers: what the new
// process has to close again are those below the highest that is passed.
//
// watcher.h starts a program in such a way that systemd can look after it.
#ifndef EVERMAP_DAEMON_PROCESS_LAUNCH_H_
#define EVERMAP_DAEMON_PROCESS_LAUNCH_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace evermap {

struct Launch {
  std::string program;  // path
  // The path that is tried when `program` does not exist: /proc/PID/exe vanishes with its process.
  // Empty: none.
  std::string otherwise = {};
  std::vector<std::string> arguments;
  // NAME=VALUE. Of the caller's environment all else is passed on, except what words.h excludes.
  std::vector<std::string> environment;
  std::vector<int> descriptors;
  // Further descriptors, behind the others and counted in LISTEN_FDS. The variable that stands
  // before a link says which number it has in the new process.
  std::vector<std::pair<std::string, int>> links;
};

// The exit code of a process that could not execute its program, as a shell has it.
inline constexpr int kExitNotExecuted = 127;

// Starts a child and returns its process id. It has no signal blocked, and of the caller's
// descriptors only 0 to 2 and those of `launch`. When the program cannot be executed, the child
// says words::kNotExecuted on the first link, if there is one, and exits with kExitNotExecuted. May
// be called in a process with several threads.
absl::StatusOr<pid_t> Start(const Launch& launch);

// Executes the program in place of this one, with the same signals blocked. Returns only when that
// failed, and says why: the descriptors of this process are then not what they were, so it should
// end.
absl::Status Replace(const Launch& launch);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_LAUNCH_H_
