// For tests that start programs: a launch of the shell, and how a process ended.
#ifndef EVERMAP_DAEMON_PROCESS_LAUNCH_TESTING_H_
#define EVERMAP_DAEMON_PROCESS_LAUNCH_TESTING_H_

#include <sys/types.h>
#include <sys/wait.h>

#include <string>

#include "absl/time/time.h"
#include "daemon/process/launch.h"
#include "gtest/gtest.h"

namespace evermap {

// How long a test waits for what another process does: long, as the machine may be busy.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

inline Launch Shell(const std::string& command) {
  return {.program = "/bin/sh",
          .arguments = {"sh", "-c", command},
          .environment = {},
          .descriptors = {},
          .links = {}};
}

// Waits for the end of child `pid`, and returns its status as waitpid(2) does.
inline int StatusOf(pid_t pid) {
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_LAUNCH_TESTING_H_
