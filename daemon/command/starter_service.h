// A mapper that a node has started (`epmd -daemon` out of `erl`), and the service that the node is:
// systemd ends everything in a service's control group together with it. So this process asks for
// epmd.service instead, where that is installed, and else leaves the group.
//
//   if (std::optional<Service> service = ServiceOfStarter(); service.has_value()) {
//     if (StartMapperService(port)) return 0;
//     ... detach ...
//     LeaveService(*service, port);
//   }
//
// Thread safety: to be used before threads start.
#ifndef EVERMAP_DAEMON_COMMAND_STARTER_SERVICE_H_
#define EVERMAP_DAEMON_COMMAND_STARTER_SERVICE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace evermap {

// By how much a node's start is delayed at most, as long as systemd answers: waiting for the mapper
// in StartMapperService(), and for the move in LeaveService(). A systemd that does not answer costs
// kManagerTimeout for each of the few questions.
inline constexpr absl::Duration kServiceStartTimeout = absl::Seconds(5);
inline constexpr absl::Duration kManagerTimeout = absl::Seconds(2);
inline constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);

struct Service {
  std::string unit;      // "rabbitmq-server.service"
  bool of_user = false;  // of a user's manager (systemd --user)
};

// The service whose node has started this process. Nothing without systemd, in a session, in a
// scope (such as a container), in epmd.service itself, and in a process that systemd has executed
// itself: that one is to be in its unit.
std::optional<Service> ServiceOfStarter();

// Has systemd start epmd.service. True when a mapper answers on `port` of loopback; false when the
// unit is not installed, is for another port, may not be started by this user or does not come up:
// the reason is logged where somebody can do something about it.
bool StartMapperService(uint16_t port);

// Moves this process, and so all that it starts from here on, to a scope of its own beside the
// service. Logs what becomes of it.
void LeaveService(const Service& service, uint16_t port);

// Whether a mapper answers on `port` of loopback.
bool IsMapperThere(uint16_t port);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_STARTER_SERVICE_H_
