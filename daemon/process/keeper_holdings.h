// What a keeper holds for the next mapper: listening sockets, nodes' connections, and the files of
// the claim to the registry (registry/claim.h). Each is a number to it, and belongs to it.
//
// A socket that hangs up is let go; a file, which does not hang up, when the mapper says so. And the
// ready sets of the mapper that is followed, so that it does not have to close them when it dies.
//
// Thread safety: belongs to the keeper's thread.
#ifndef EVERMAP_DAEMON_PROCESS_KEEPER_HOLDINGS_H_
#define EVERMAP_DAEMON_PROCESS_KEEPER_HOLDINGS_H_

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class KeeperHoldings {
 public:
  // Sockets are watched by `epoll_fd`, which outlives this.
  explicit KeeperHoldings(int epoll_fd) : epoll_fd_(epoll_fd) {}
  KeeperHoldings(const KeeperHoldings&) = delete;
  KeeperHoldings& operator=(const KeeperHoldings&) = delete;
  ~KeeperHoldings();

  // Holds a socket, until LetGo(), which is to be called when `epoll_fd` reports an event of it.
  void Hold(OwnedFd passed);
  bool Holds(int socket) const { return sockets_.contains(socket); }
  void LetGo(int socket);
  size_t sockets() const { return sockets_.size(); }
  // Holds a file; nothing happens when one of its name is held already.
  void HoldFile(OwnedFd passed);
  // Holds what a mapper has sent in one message.
  void HoldAll(std::vector<OwnedFd> passed, bool are_sockets);
  void LetGoOfFile(std::string_view name);
  void LetGoOfFiles() { files_.clear(); }

  // Holds the ready sets of the mapper (custody/store.h), in place of those that it held.
  void HoldReadySets(std::vector<OwnedFd> sets) { ready_sets_ = std::move(sets); }
  // Takes them away, for the mapper that is started next.
  std::vector<OwnedFd> TakeReadySets() { return std::exchange(ready_sets_, {}); }

  // All of these stay this object's. In ascending order, as launch.h asks for, since the keeper may hold as
  // many as its limit allows:
  std::vector<int> All() const;
  // Listening sockets and files: what a mapper needs to serve. They have low numbers.
  std::vector<int> AllButConnections() const;
  // In no order:
  std::vector<int> Connections() const;
  std::vector<int> Sockets() const { return {sockets_.begin(), sockets_.end()}; }
  std::vector<int> Files() const;
  std::vector<int> ReadySets() const;

 private:
  const int epoll_fd_;
  absl::flat_hash_set<int> sockets_;    // owned
  absl::flat_hash_set<int> listeners_;  // those of them that listen
  std::vector<OwnedFd> files_;
  std::vector<OwnedFd> ready_sets_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_KEEPER_HOLDINGS_H_
