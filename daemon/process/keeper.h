// The keeper: what systemd is to a mapper, where there is no systemd. It starts the mapper, holds
// duplicates of its sockets, and starts another one with them when the mapper dies.
//
// It knows nothing of nodes, has no ring, and reads nothing that comes from the network: a held
// descriptor is a number to it. All it is told comes through its link to the mapper, in the words
// of custody/words.h:
//
//   kStore      hold the descriptors that come along. A connection that both sides have closed
//               hangs up, and is let go of then; so no message takes a descriptor back.
//   kReady      connections are accepted
//   kMainPid    another process, which the mapper has started, is the mapper from now on
//               (predecessor.h); it has the other end of the same link
//   kStopping   the mapper is about to end because it was told to; the keeper ends as well
//
// A keeper that nobody attends can be relieved by another (keeper_relief.h).
//
// SIGTERM and SIGINT are passed on to the mapper, and SIGHUP as soon as there is one that serves.
// mapper_watch.h says when a mapper is started again, when the keeper ends, and when it gives up.
#ifndef EVERMAP_DAEMON_PROCESS_KEEPER_H_
#define EVERMAP_DAEMON_PROCESS_KEEPER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "daemon/process/inheritance.h"

namespace evermap {

// What a keeper knows of its own options and surroundings.
struct KeeperOptions {
  uint16_t port = 0;       // of its mapper
  bool is_daemon = false;  // it has left its parent on purpose: nobody has to attend it
  // Whether a mapper runs that has a keeper, or is about to have one again. That keeper is relieved
  // if it is not attended. Null: none is looked for.
  std::function<bool()> is_mapper_there = nullptr;
};

// Runs until the mapper ends on purpose, and returns its exit code; ends the process with 0 when it
// is relieved. `arguments` are those of this process, which the mapper gets as well. `inherited` may
// hold sockets to begin with; if it names a mapper that runs, that one is followed and none is
// started. Calls `on_ready` once, when a mapper accepts connections. To be called before other
// threads start.
int RunKeeper(const std::vector<std::string>& arguments, const KeeperOptions& options,
              Inheritance inherited, absl::FunctionRef<void()> on_ready);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_KEEPER_H_
