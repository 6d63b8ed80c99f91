// epmdctl upgrade: asks the mapper that runs to start its successor, and tells how that went.
//
// The request is SIGHUP; before it, the path of a program other than the running one is left beside
// the registry (registry/upgrade_request.h). The answer is the upgrade's status in the registry.
#ifndef EVERMAP_TOOLS_EPMDCTL_UPGRADE_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_UPGRADE_COMMAND_H_

#include <string>

#include "tools/epmdctl/current_registry.h"

namespace evermap {

// Longer than all of an upgrade's own timeouts together (daemon/process/predecessor.h): an upgrade
// that goes wrong has said so by then.
inline constexpr int kUpgradeTimeoutDefaultS = 60;

// Starts `binary`, or the mapper's own program when it is empty, and waits up to `timeout_s` for
// the outcome. Prints it, as JSON if `json`, and returns the exit code.
int Upgrade(CurrentRegistry& registry, const std::string& binary, int timeout_s, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_UPGRADE_COMMAND_H_
