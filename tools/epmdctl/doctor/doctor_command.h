// epmdctl doctor: why a node cannot be found. Each check says what it has found, and what to do.
//
// For a node of this host, and when no node is named, the doctor looks at the mapper's registry,
// its process and its sockets; for a node of another host only at what that host answers over TCP.
// The order of the checks is in doctor_command.cc; the checks are in the files beside it.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_DOCTOR_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_DOCTOR_COMMAND_H_

#include <cstdint>
#include <string>

#include "tools/epmdctl/current_registry.h"

namespace evermap {

// `node`: NAME[@HOST], or empty: only the mapper is examined. `peer`: likewise, or empty; then it is said
// whether `node` can reach it instead. Returns the exit code: 0 also with
// warnings, 1 when a check failed.
int Diagnose(CurrentRegistry& registry, uint16_t port, const std::string& node,
             const std::string& peer, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_DOCTOR_COMMAND_H_
