// What a process finds open when it starts: the sockets and links that systemd, a keeper or another
// mapper has passed to it, and whose they are (custody/words.h lists the variables that say so).
//
// Listening sockets, connections and files are told apart by asking the kernel, never by name, number or
// order (INV-9). Our own links are told apart by their variables, and these count only together
// with a LISTEN_PID that names this process: without it no descriptor is taken at all.
//
// Thread safety: changes the environment; to be used before other threads start.
#ifndef EVERMAP_DAEMON_PROCESS_INHERITANCE_H_
#define EVERMAP_DAEMON_PROCESS_INHERITANCE_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"

namespace evermap {

struct Inheritance {
  std::vector<OwnedFd> listeners;    // TCP sockets that listen
  std::vector<OwnedFd> connections;  // other TCP sockets
  std::vector<OwnedFd> files;        // of the claim to the registry (registry/claim.h)
  OwnedFd keeper;                    // a mapper's link to its keeper,
  OwnedFd connections_link;          // and the one through which connections come (hand_over.h)
  OwnedFd predecessor;               // a successor's link to its predecessor
  bool predecessor_offers_files = false;  // words::kFiles is its first message
  pid_t watcher = 0;                      // a successor's watcher (watcher.h); 0: none
  std::vector<OwnedFd> ready_sets;        // a keeper's, of that mapper
  OwnedFd mapper;                         // a keeper's link to the mapper that it is to follow,
  pid_t mapper_pid = 0;                   // and that mapper's process id; 0: none
  bool is_stray = false;                  // a keeper that nobody attends (keeper_relief.h)
};

// Takes all that was passed, close-on-exec, and the variables out of the environment, so that a
// second call finds nothing. kFailedPrecondition: a descriptor is neither a TCP socket nor a link
// of ours; all are closed then, and the message is one line.
absl::StatusOr<Inheritance> TakeInheritance();

// How many descriptors from 3 on were passed to this process. Takes nothing.
unsigned InheritedDescriptors();

// Whether `fd` is a TCP socket, and if so whether it listens.
enum class SocketKind { kListener, kConnection, kOther };
SocketKind KindOfSocket(int fd);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_INHERITANCE_H_
