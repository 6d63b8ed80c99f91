// What a mapper or a keeper finds open when it starts: the sockets that systemd, a keeper or the
// mapper before it hands over as LISTEN_FDS.
//
// Listeners and connections are told apart by asking the kernel, never by name, number or order
// (INV-9). The variables that our own processes set for each other count only together with a
// LISTEN_PID that names this process:
//
//   EVERMAP_KEEPER       the link to the keeper that holds the descriptors of this mapper
//   EVERMAP_PREDECESSOR  the link to the mapper that this one is to take over from
//   EVERMAP_WATCHER      the process id of its watcher (launch.h)
//   EVERMAP_MAPPER       the link to the mapper that this keeper is to hold the descriptors of,
//   EVERMAP_MAPPER_PID   and that mapper's process id
#ifndef EVERMAP_DAEMON_PROCESS_INHERITANCE_H_
#define EVERMAP_DAEMON_PROCESS_INHERITANCE_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"

namespace evermap {

struct Inheritance {
  std::vector<OwnedFd> listeners;
  std::vector<OwnedFd> connections;
  OwnedFd keeper;
  OwnedFd predecessor;
  pid_t watcher = 0;
  OwnedFd mapper;
  pid_t mapper_pid = 0;
};

// Takes all that was passed, and the variables out of the environment. kFailedPrecondition: a
// descriptor is neither a TCP socket nor one of ours; the message is one line.
// REQUIRES: called once, before other threads start.
absl::StatusOr<Inheritance> TakeInheritance();

// How many descriptors from 3 on were passed to this process. Takes nothing.
unsigned InheritedDescriptors();

// Whether a socket is a TCP socket, and if so whether it listens.
enum class SocketKind { kListener, kConnection, kOther };
SocketKind KindOfSocket(int fd);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_INHERITANCE_H_
