// epmdctl config: the settings by which the mapper serves; and epmdctl reload: has it take them anew.
// Both read what the mapper has noted beside the registry (registry/settings_note.h).
#ifndef EVERMAP_TOOLS_EPMDCTL_SETTINGS_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_SETTINGS_COMMAND_H_

#include "tools/epmdctl/current_registry.h"

namespace evermap {

// A mapper whose nodes' connections are just being taken over reloads after that.
inline constexpr int kReloadTimeoutDefaultS = 30;

// Prints each setting with its value and where that comes from, as JSON if `json`; returns the exit
// code.
int ShowSettings(CurrentRegistry& registry, bool json);

// Asks the mapper for a reload, waits up to `timeout_s` for the outcome, prints it, and returns the
// exit code.
int ReloadSettings(CurrentRegistry& registry, int timeout_s, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_SETTINGS_COMMAND_H_
