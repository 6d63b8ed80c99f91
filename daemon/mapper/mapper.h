// The mapper: listeners, registry and workers, from start to end.
#ifndef EVERMAP_DAEMON_MAPPER_MAPPER_H_
#define EVERMAP_DAEMON_MAPPER_MAPPER_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "daemon/command/options.h"
#include "daemon/process/inheritance.h"

namespace evermap {

// Serves until SIGTERM, SIGINT, a KILL request or the commit of an upgrade (SIGHUP), and returns
// the exit code: 0 after those and when another mapper has the port, 1 after one line that says
// what is wrong. `arguments` are those of this process, for the one that takes over. Calls
// `on_ready` once, when connections are accepted. REQUIRES: no other threads. One call per process.
int RunMapper(const Options& options, const std::vector<std::string>& arguments,
              Inheritance inherited, absl::FunctionRef<void()> on_ready);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_MAPPER_H_
