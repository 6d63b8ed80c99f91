// Which part this process plays. One program is all of them; the options and what is passed to the
// process say which one it is to be.
#ifndef EVERMAP_DAEMON_ROLE_H_
#define EVERMAP_DAEMON_ROLE_H_

#include <cstdint>

#include "daemon/command/options.h"
#include "daemon/process/inheritance.h"

namespace evermap {

enum class Role : uint8_t {
  // Asks a mapper, or tells about itself, and exits (command/interactive.h).
  kCommand,
  // -daemon: starts a process that is detached from its terminal, or has systemd start the mapper,
  // and exits as soon as connections are accepted (command/daemonize.h, command/starter_service.h).
  kStarter,
  // Starts mappers one after the other, and keeps their sockets (process/keeper.h). Begins with a
  // mapper that runs already, if it inherits the link to one.
  kKeeper,
  // Serves (mapper/mapper.h). Takes over from a predecessor, if it inherits the link to one.
  kMapper,
};

// What else there is to know of a process.
struct Surroundings {
  bool has_notify_socket = false;  // $NOTIFY_SOCKET is set: systemd, or something like it, listens
  bool is_detached = false;        // this is the process that a kStarter has detached
};

// The role of a process with these options and this inheritance. Pure. A process that inherits a
// link of ours is what that link is for, whatever the options say, since all processes of a mapper
// have the same. Otherwise a mapper gets a keeper, if it needs one (custody/choose_store.h).
Role RoleOf(const Options& options, const Inheritance& inherited, const Surroundings& surroundings);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_ROLE_H_
