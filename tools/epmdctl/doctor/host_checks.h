// Checks of how to reach something: whether a host has an address, and why a connection fails.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_HOST_CHECKS_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_HOST_CHECKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tools/epmdctl/doctor/report.h"
#include "tools/epmdctl/host/processes.h"

namespace evermap {

// Longest time for one thing that is tried over TCP. On a network that works an answer takes
// milliseconds, and the first packet that is lost is sent again after one second.
inline constexpr absl::Duration kProbeTimeout = absl::Seconds(3);

enum class HostKind : uint8_t { kUnknown, kOther, kThis };

// Whether `host` has an address, and whether that is this host's. kUnknown: nothing more can be
// found out about it.
HostKind ExamineHost(const std::string& host, uint16_t port, Report& report);

// On which addresses `who` listens; says nothing when there are none. `if_loopback`: the advice
// when other hosts cannot reach them.
void ExamineAddresses(const char* check, const std::vector<ListeningSocket>& sockets,
                      const std::string& who, const std::string& if_loopback, Report& report);

// Why a connection could not be made, in the terms of networks, and what to do then.
// `status`: of Connect() or Client, so that ErrnoOf() (daemon/wire/tcp.h) is known.
std::string ConnectProblem(const absl::Status& status);
std::string ConnectAdvice(const absl::Status& status, const std::string& if_refused);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_HOST_CHECKS_H_
