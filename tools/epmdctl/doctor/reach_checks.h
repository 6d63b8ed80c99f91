// Whether one node can reach another one, step by step, as the Erlang runtime goes about it: the address
// of the host, the mapper there, the port of the node, and the first messages of the handshake.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_REACH_CHECKS_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_REACH_CHECKS_H_

#include <cstdint>

#include "tools/epmdctl/doctor/report.h"
#include "tools/epmdctl/lookup_command.h"

namespace evermap {

// Whether `from`, a node of this host, can reach `to`. Looks from the network namespace of `from`, where
// that is another one and may be entered. `port`: of the mappers.
void ExamineReach(const NodeAddress& from, const NodeAddress& to, uint16_t port, Report& report);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_REACH_CHECKS_H_
