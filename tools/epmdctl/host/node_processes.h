// Which processes the nodes are.
//
// The mapper does not know: the kernel tells the user of a socket, but not its process. So whoever
// wants to know finds the socket on which a node listens, by the cookie in its registration, and
// the process in whose /proc/PID/fd it is. That is done only when somebody asks, and costs a walk
// through all processes.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_NODE_PROCESSES_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_NODE_PROCESSES_H_

#include <cstdint>
#include <map>
#include <vector>

#include "registry/registration.h"

namespace evermap {

// The process of each node, by id of the registration; of several that share the socket the one
// with the lowest number. Missing are nodes that listen in another network namespace or on a port
// that they did not register, and those of other users unless root asks.
std::map<uint64_t, int> FindProcesses(const std::vector<Registration>& nodes);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_NODE_PROCESSES_H_
