// epmdctl lookup: one node, from shared memory or from a mapper over TCP.
#ifndef EVERMAP_TOOLS_EPMDCTL_LOOKUP_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_LOOKUP_COMMAND_H_

#include <cstdint>
#include <string>

#include "tools/epmdctl/current_registry.h"

namespace evermap {

// A node's name, and where to ask for it.
struct NodeAddress {
  std::string name;
  std::string host;  // empty: this one
};
// Divides NAME[@HOST] at the last '@'.
NodeAddress ParseNodeAddress(const std::string& text);

// Asks the mapper on `port` of the host. Without one the registry is read, and only when that
// cannot be done the mapper on `port` of 127.0.0.1 is asked. The answer says which way it came.
// Returns the exit code.
int LookupNode(CurrentRegistry& registry, uint16_t port, const std::string& node, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_LOOKUP_COMMAND_H_
