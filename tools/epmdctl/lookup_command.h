// epmdctl lookup: one node, from shared memory or from a mapper over TCP.
#ifndef EVERMAP_TOOLS_EPMDCTL_LOOKUP_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_LOOKUP_COMMAND_H_

#include <cstdint>
#include <string>

#include "tools/epmdctl/current_registry.h"

namespace evermap {

// The name of a node, and the host whose mapper knows it.
struct NodeAddress {
  std::string name;
  std::string host;  // empty: this host
};
// Divides NAME[@HOST] at the last '@'.
NodeAddress ParseNodeAddress(const std::string& text);

// Prints one node. With a host its mapper on `port` is asked. Without one the registry is read, and
// the mapper on `port` of 127.0.0.1 is asked only when the registry cannot be read. The output says
// which of them answered. Returns the exit code.
int LookupNode(CurrentRegistry& registry, uint16_t port, const std::string& node, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_LOOKUP_COMMAND_H_
