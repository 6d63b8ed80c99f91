// Which processes the nodes are.
//
// The mapper does not know it, because the kernel tells it the user of a socket but not the
// process. A tool finds the socket on which a node listens by the cookie in its registration, and
// then the process in whose /proc/PID/fd that socket is. That costs a walk through all processes,
// so it is done only when a user asks.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_NODE_PROCESSES_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_NODE_PROCESSES_H_

#include <cstdint>
#include <map>
#include <vector>

#include "registry/registration.h"

namespace evermap {

// The process of each node, by the id of its registration. Of several processes that share the
// socket it is the one with the lowest number. Nodes that listen in another network namespace or on
// a port that they did not register are missing, and so are those of other users unless root asks.
std::map<uint64_t, int> FindProcesses(const std::vector<Registration>& nodes);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_NODE_PROCESSES_H_
