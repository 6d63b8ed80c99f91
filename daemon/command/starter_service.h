// A mapper that a node has started (`epmd -daemon` out of `erl`), where the node is a service of
// systemd. systemd ends all processes in a service's control group together with it, and so would
// end the mapper of the whole host with one node. So the process that is to be the mapper has
// systemd start epmd.service instead, where that is installed, and else leaves the control group.
//
//   if (std::optional<Service> service = ServiceOfStarter(); service.has_value()) {
//     if (StartMapperService(port)) return 0;
//     ... detach ...
//     LeaveService(*service, port);
//   }
//
// Thread safety: to be used before other threads start.
#ifndef EVERMAP_DAEMON_COMMAND_STARTER_SERVICE_H_
#define EVERMAP_DAEMON_COMMAND_STARTER_SERVICE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace evermap {

// What delays the start of a node: how long StartMapperService() waits at most for the mapper and
// LeaveService() for the move, as long as systemd answers. A systemd that does not answer costs
// kManagerTimeout for each of a few questions.
inline constexpr absl::Duration kServiceStartTimeout = absl::Seconds(5);
inline constexpr absl::Duration kManagerTimeout = absl::Seconds(2);
inline constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);

struct Service {
  std::string unit;      // "rabbitmq-server.service"
  bool of_user = false;  // it belongs to a user's manager (systemd --user)
};

// The service whose node has started this process. Nothing without systemd, and for a process in a
// session, in a scope (such as a container) or in epmd.service itself. Nothing either for a process
// that systemd has executed itself: that is to stay in its unit.
std::optional<Service> ServiceOfStarter();

// Has systemd start epmd.service. True when a mapper answers on `port` of loopback then. False when
// the unit is not installed, is for another port, may not be started by this user, or does not come
// up; the last two are logged, as an administrator can mend them.
bool StartMapperService(uint16_t port);

// Moves this process, and so all processes that it starts from here on, to a scope of its own
// beside the service. Logs whether that has worked.
void LeaveService(const Service& service, uint16_t port);

// Whether a mapper answers on `port` of loopback.
bool IsMapperThere(uint16_t port);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_STARTER_SERVICE_H_
