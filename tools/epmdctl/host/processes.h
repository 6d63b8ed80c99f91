// Which processes listen where, as /proc shows it. It shows less about processes of other users.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_PROCESSES_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_PROCESSES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"

namespace evermap {

// Calls `visit` with each socket that each process holds, as far as this user may see that. `inode`
// is the number in "socket:[4711]". Processes that end meanwhile are skipped. When `visit` returns
// false there are no more calls.
void ForEachSocket(absl::FunctionRef<bool(pid_t pid, uint64_t inode)> visit);

struct ListeningSocket {
  std::string address;  // "0.0.0.0", "::1", ...
  uint16_t port = 0;
  uint64_t inode = 0;

  bool IsLoopback() const;
  bool IsAny() const;
};
// All listening sockets of this network namespace.
std::vector<ListeningSocket> ListeningSockets();
// Those of `sockets` that listen on `port`.
std::vector<ListeningSocket> SocketsOn(const std::vector<ListeningSocket>& sockets, uint16_t port);

struct Process {
  pid_t pid = 0;
  std::string name;  // of its program, at most 15 bytes (TASK_COMM_LEN)
  std::vector<ListeningSocket> listening;
};
// The processes that hold any of `sockets`, as far as this user may see that, and those whose
// program is called `name`; all in this network namespace.
std::vector<Process> ProcessesAt(const std::vector<ListeningSocket>& sockets,
                                 const std::string& name);

// The processes whose program is called `name`, in whichever network namespace, the lowest number first.
std::vector<pid_t> ProcessesCalled(const std::string& name);

// `pid`, its parent, the parent of that and so on.
std::vector<pid_t> WithAncestors(pid_t pid);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_PROCESSES_H_
