// The keeper: what systemd is to a mapper, where there is no systemd. It starts the mapper, holds
// duplicates of its sockets, and starts another one with them when the mapper dies.
//
// It knows nothing of nodes, and reads nothing that comes from the network. All it is told comes
// through its link to the mapper (notify.h), in systemd's words:
//
//   FDSTORE=1   hold the descriptors that come along. A connection that both sides have closed
//               hangs up, and is let go of then; so nobody has to say so.
//   READY=1     connections are accepted
//   MAINPID=N   process N, started by the mapper, is the mapper from now on (upgrade.h)
//   STOPPING=1  the mapper is about to end because somebody asked for that; end, too
//
// SIGTERM and SIGINT are passed on to the mapper, and SIGHUP as soon as there is one that serves.
#ifndef EVERMAP_DAEMON_PROCESS_KEEPER_H_
#define EVERMAP_DAEMON_PROCESS_KEEPER_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "daemon/process/inheritance.h"

namespace evermap {

// Runs until the mapper ends on purpose, and returns its exit code. `arguments` are those of this
// process, which the mapper gets as well. `inherited` may hold sockets to begin with; if it names a
// mapper that runs, that one is kept and none is started. Calls `on_ready` once, when the first
// mapper accepts connections. REQUIRES: no other threads.
int RunKeeper(const std::vector<std::string>& arguments, Inheritance inherited,
              absl::FunctionRef<void()> on_ready);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_KEEPER_H_
