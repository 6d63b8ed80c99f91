// Checks of one node: whether its name is registered, whether its port accepts connections, and
// whether the node that answers there is the one that was looked up.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_NODE_CHECKS_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_NODE_CHECKS_H_

#include <cstdint>
#include <optional>

#include "tools/epmdctl/current_registry.h"
#include "tools/epmdctl/doctor/report.h"
#include "tools/epmdctl/host/handshake.h"
#include "tools/epmdctl/lookup_command.h"

namespace evermap {

// What a registration tells of how to connect to its node.
struct FoundNode {
  uint16_t port = 0;
  uint16_t highest_version = 0;  // of the distribution protocol
};

// Looks the name up in the registry, which also tells of former nodes and of lost connections.
// Nothing when no node is registered under it.
std::optional<FoundNode> FindInRegistry(CurrentRegistry& registry, const NodeAddress& node,
                                        Report& report);
// Looks the name up with the mapper on `mapper_port` of the node's host, or of this one.
std::optional<FoundNode> FindOverTcp(uint16_t mapper_port, const NodeAddress& node, Report& report);

// Connects to the node and greets it, and returns its answer, if it gave one. `is_this_host`: whether
// the node's sockets can be looked at.
std::optional<NodeAnswer> ExamineNode(const NodeAddress& node, const FoundNode& found,
                                      bool is_this_host, Report& report);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_NODE_CHECKS_H_
