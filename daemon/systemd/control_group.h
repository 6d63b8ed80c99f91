// The unit of systemd that a process belongs to, as its control group tells: systemd names the
// groups by the units, a slice around a unit being a directory around its group.
//
//   /system.slice/epmd.service                                             a unit of the system
//   /user.slice/user-1000.slice/user@1000.service/app.slice/chat.service   a unit of a user's manager
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_SYSTEMD_CONTROL_GROUP_H_
#define EVERMAP_DAEMON_SYSTEMD_CONTROL_GROUP_H_

#include <string>
#include <string_view>

namespace evermap {

// The units of this process: of the system's manager, and of its user's; empty when there is none,
// or it cannot be told.
std::string OwnSystemUnit();
std::string OwnUserUnit();

// systemd's control group in the text of a /proc/PID/cgroup: what lies in its own hierarchy, where
// it has one, else in the unified one. Empty when there is neither.
std::string_view ControlGroupIn(std::string_view text);

// The part of `group` below the group of the manager, when `manager` is the group of process 1: the
// manager may run in a container's group, and keeps itself in init.scope.
std::string_view BelowManager(std::string_view group, std::string_view manager);

// The units that a group of this path is in.
std::string SystemUnitOf(std::string_view group);
std::string UserUnitOf(std::string_view group);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SYSTEMD_CONTROL_GROUP_H_
