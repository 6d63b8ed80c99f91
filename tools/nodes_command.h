// epmdctl list and epmdctl lookup: the nodes that a registry knows.
#ifndef EVERMAP_TOOLS_NODES_COMMAND_H_
#define EVERMAP_TOOLS_NODES_COMMAND_H_

#include <string>

#include "tools/current_registry.h"

namespace evermap {

// Prints all nodes, with `all` also the remembered ones. Both return the exit code.
int ListNodes(CurrentRegistry& registry, bool all, bool json);
int LookupNode(CurrentRegistry& registry, const std::string& name, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_NODES_COMMAND_H_
