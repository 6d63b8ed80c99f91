// What a keeper holds for the next mapper: listening sockets, nodes' connections, and the files of the
// claim to the registry (registry/claim.h).
//
// Thread safety: belongs to the keeper's thread.
#ifndef EVERMAP_DAEMON_PROCESS_HOLDING_H_
#define EVERMAP_DAEMON_PROCESS_HOLDING_H_

#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class Holding {
 public:
  Holding() = default;
  ~Holding();
  Holding(const Holding&) = delete;
  Holding& operator=(const Holding&) = delete;

  // Holds a socket, and has the epoll set report when it hangs up. One that cannot be watched is not
  // held, which is logged.
  void Hold(OwnedFd fd, int epoll_fd);
  // REQUIRES: Holds(fd).
  void LetGo(int fd, int epoll_fd);
  // Holds a file, unless it does already. A file does not hang up: it is let go when the mapper says so.
  void HoldFile(OwnedFd fd);
  // `name`: as StoredName() has it (registry/base/file_identity.h).
  void LetGoOfFile(std::string_view name);
  void LetGoOfAllFiles() { files_.clear(); }

  // Whether it is a socket that is held.
  bool Holds(int fd) const { return sockets_.contains(fd); }
  // All of these stay this object's. In no order:
  std::vector<int> Sockets() const { return {sockets_.begin(), sockets_.end()}; }
  std::vector<int> Connections() const;
  std::vector<int> Files() const;
  // In ascending order, as launch.h asks for: there may be as many as the limit allows.
  std::vector<int> All() const;
  std::vector<int> AllButConnections() const;

 private:
  absl::flat_hash_set<int> sockets_;    // owned
  absl::flat_hash_set<int> listeners_;  // those of them that listen
  std::vector<OwnedFd> files_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_HOLDING_H_
