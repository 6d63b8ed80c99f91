// epmdctl status: the mapper, its registry and what it has done.
#ifndef EVERMAP_TOOLS_EPMDCTL_STATUS_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_STATUS_COMMAND_H_

#include <nlohmann/json_fwd.hpp>

#include "registry/status.h"
#include "tools/epmdctl/current_registry.h"

namespace evermap {

// Prints what is known, whether or not the mapper runs. Returns the exit code.
// Prints one line for a monitoring plugin, and returns its exit code.
int CheckStatus(CurrentRegistry& registry);
int ShowStatus(CurrentRegistry& registry, bool json);

const char* OutcomeText(UpgradeStatus::Outcome outcome);
// Null when there has been no upgrade.
nlohmann::json ToJson(const UpgradeStatus& upgrade);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_STATUS_COMMAND_H_
