// epmdctl upgrade: asks the running mapper to be replaced by a new one, and tells how that went.
//
// The request is a SIGHUP; where another binary than the running one is to be started, its absolute
// path is put into REGISTRY.upgrade before. The answer is the upgrade's status in the registry.
#ifndef EVERMAP_TOOLS_EPMDCTL_UPGRADE_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_UPGRADE_COMMAND_H_

#include <string>

#include "tools/epmdctl/current_registry.h"

namespace evermap {

inline constexpr int kUpgradeTimeoutDefaultS = 60;

// `binary` may be empty: the mapper's own. Returns the exit code.
int Upgrade(CurrentRegistry& registry, const std::string& binary, int timeout_s, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_UPGRADE_COMMAND_H_
