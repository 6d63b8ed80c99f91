// epmdctl forget: has the mapper end one registration. Leaves a request beside the registry
// (registry/forget_request.h) and tells the mapper; that the registration has ended is seen in the
// registry.
#ifndef EVERMAP_TOOLS_EPMDCTL_FORGET_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_FORGET_COMMAND_H_

#include <string>

#include "tools/epmdctl/current_registry.h"

namespace evermap {

// Ends the registration of `name`, whether it has a connection or is an orphan, and prints whose it was,
// as JSON if `json`. Returns the exit code: 1 also when the name is not registered.
int Forget(CurrentRegistry& registry, const std::string& name, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_FORGET_COMMAND_H_
