// Custody: which connection keeps which registration alive.
//
// A worker takes a node's connection into custody when it has registered the node, and gives it up
// after it has unregistered it and before it closes it. In between any worker may look at the
// connection of a slot, to see whether its node is still there.
//
// Thread safety: all members may be called from any thread.
// Invariants:
//   C-1  What is in custody for a slot may be closed by its worker at any moment, and its number be
//        used again. So whoever looks at it takes a duplicate first, and then believes the
//        duplicate only if its SO_COOKIE is the one in the registration (INV-9).
#ifndef EVERMAP_DAEMON_CUSTODY_H_
#define EVERMAP_DAEMON_CUSTODY_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "registry/registration.h"

namespace evermap {

class Custody {
 public:
  // For a registry of `capacity` records, and at most `connections_max` connections.
  Custody(uint32_t capacity, uint32_t connections_max);

  // Counts a connection that is about to be held; false when there are as many as there may be.
  bool Reserve();
  // Undoes Reserve().
  void Release();

  // REQUIRES: Reserve()d.
  void Hold(uint32_t slot, int fd);
  // Also undoes Reserve(). Whatever another connection holds of the slot meanwhile stays.
  void GiveUp(uint32_t slot, int fd);

  // The descriptor in custody for a slot, -1: none.
  int DescriptorOf(uint32_t slot) const;
  uint32_t connections_max() const { return connections_max_; }

  // Whether the node of a live registration has closed its connection, or its death was noticed by
  // the kernel. False when the connection is not here.
  bool HasLeft(const Registration& holder) const;
  // Shuts the connection of a registration down, so that its worker ends it.
  void Shutdown(const Registration& holder) const;

 private:
  const uint32_t capacity_;
  const uint32_t connections_max_;
  std::atomic<uint32_t> connections_{0};
  std::unique_ptr<std::atomic<int>[]> descriptors_;  // by slot; one more than the fd, 0: none
};

// SO_COOKIE of a socket, 0 when it cannot be had.
uint64_t SocketCookie(int fd);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_H_
