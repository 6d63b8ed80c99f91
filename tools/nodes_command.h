// epmdctl list: the nodes that a registry knows; and how a node is shown.
#ifndef EVERMAP_TOOLS_NODES_COMMAND_H_
#define EVERMAP_TOOLS_NODES_COMMAND_H_

#include <nlohmann/json_fwd.hpp>

#include "registry/registration.h"
#include "tools/current_registry.h"

namespace evermap {

const char* StateText(RegistrationState state);
nlohmann::json ToJson(const Registration& node);
// As rows of a table.
void PrintNodeHead();
void PrintNode(const Registration& node);

// Prints all nodes, with `all` also the remembered ones. Returns the exit code.
int ListNodes(CurrentRegistry& registry, bool all, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_NODES_COMMAND_H_
