// Checks of what goes on beside this network namespace: mappers there, nodes of this host that are in no
// mapper or in another one, and which program the mapper is.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_NAMESPACE_CHECKS_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_NAMESPACE_CHECKS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "tools/epmdctl/doctor/registry_checks.h"
#include "tools/epmdctl/doctor/report.h"

namespace evermap {

// Runs `work` in the network namespace of a process, in a thread of its own. False when that may not be
// entered (only root may) or is gone.
bool RunInNetworkOf(pid_t pid, absl::FunctionRef<void()> work);

// Which of several epmds has the port: Evermap, or that of Erlang/OTP, of which release, and whether
// that one can be ended from outside.
void ExamineProgram(uint16_t port, Report& report);

// Whether a mapper runs in another network namespace, as in a container, and whether `name`, unless it
// is empty, is registered there.
void ExamineOtherNetworks(uint16_t port, const std::string& name, Report& report);

// The nodes of this host whose command lines say that they are in no mapper, or in another one; those
// called `name`, unless it is empty. `is_found`: a node of that name is registered here, and is not
// looked for.
void ExamineUnregisteredNodes(uint16_t port, const std::string& name, bool is_found,
                              Report& report);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_NAMESPACE_CHECKS_H_
