// epmdctl list: the nodes that a registry knows; and how a node is shown.
#ifndef EVERMAP_TOOLS_EPMDCTL_LIST_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_LIST_COMMAND_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "registry/registration.h"
#include "tools/epmdctl/current_registry.h"

namespace evermap {

// Prints all registered nodes, and with `all` also the names that are only remembered. Returns the
// exit code.
int ListNodes(CurrentRegistry& registry, bool all, bool json);

// One node as ListNodes() shows it, as JSON and as a table.
nlohmann::json NodeJson(const Registration& node);
void PrintNode(const Registration& node);
// What whoever held a name was, in one line: from NodeJson().
std::string OwnerLine(const nlohmann::json& node);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_LIST_COMMAND_H_
