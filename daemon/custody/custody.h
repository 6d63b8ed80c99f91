// Custody: which connection keeps which registration alive, and who else holds it.
//
// A worker takes a node's connection into custody when it has registered the node, and gives it up
// after it has unregistered it and before it closes it. In between any worker may look at the
// connection of a slot, to see whether its node is still there, and the main thread passes a
// duplicate on to the store (store.h), which keeps it for the next mapper: to the keeper's a few
// milliseconds later, to systemd's a moment (store_queue.h).
//
// The reply to a registration does not wait for the store. A mapper that dies in between loses
// nothing but that connection: the registration is in the registry, becomes an orphan, and is kept
// as long as its node listens (orphans.h).
//
// Thread safety: all members may be called from any thread; TakeNew() from one.
// Invariants:
//   C-1  What is in custody for a slot may be closed by its worker at any moment, and its number be
//        used again. So whoever looks at it takes a duplicate first, and then believes the
//        duplicate only if its SO_COOKIE is the one in the registration (INV-9).
//   C-2  A slot is on the list of new ones at most once: who sets its mark puts it there, and the
//        mark is cleared before the slot is looked at.
#ifndef EVERMAP_DAEMON_CUSTODY_CUSTODY_H_
#define EVERMAP_DAEMON_CUSTODY_CUSTODY_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "registry/base/owned_fd.h"
#include "registry/registration.h"

namespace evermap {

class Custody {
 public:
  // For a registry of `capacity` records, and at most `connections_max` connections. When there
  // are new ones, one is added to `wake_fd`, an eventfd that outlives this.
  Custody(uint32_t capacity, uint32_t connections_max, int wake_fd);

  // Counts a connection that is about to be held; false when there are as many as there may be.
  bool Reserve();
  // Undoes Reserve().
  void Release();

  // REQUIRES: Reserve()d.
  void Hold(uint32_t slot, int fd);
  // Puts the slot on the list of new ones. To be called when the node has its reply: the next
  // mapper gives none, so a node whose connection was stored before would wait for it for ever.
  void Announce(uint32_t slot);
  // As Hold(), for a connection that the store has already. Counts it, however many there are.
  void HoldStored(uint32_t slot, int fd);
  // Also undoes Reserve(). Whatever another connection holds of the slot meanwhile stays.
  void GiveUp(uint32_t slot, int fd);

  // Calls `visit` with each slot for which Announce() was called since the last time.
  void TakeNew(absl::FunctionRef<void(uint32_t slot)> visit);

  // The descriptor in custody for a slot, -1: none.
  int DescriptorOf(uint32_t slot) const;
  // A duplicate of the connection of a registration; invalid when it is not here (errno: EBADF), or
  // when there is none to be had at this moment (EMFILE, ENOMEM, ENOBUFS).
  OwnedFd Duplicate(const Registration& holder) const;
  uint32_t capacity() const { return capacity_; }
  uint32_t connections_max() const { return connections_max_; }

  // Whether the node of a live registration has closed its connection, or its death was noticed by
  // the kernel. False when the connection is not here.
  bool HasLeft(const Registration& holder) const;
  // Shuts the connection of a registration down, so that its worker ends it.
  void Shutdown(const Registration& holder) const;

 private:
  struct Slot {
    std::atomic<int> descriptor{0};     // one more than the fd, 0: none
    std::atomic<bool> is_new{false};    // on the list of new ones
    std::atomic<uint32_t> next_new{0};  // one more than the slot, 0: the end
  };

  const uint32_t capacity_;
  const uint32_t connections_max_;
  const int wake_fd_;
  std::atomic<uint32_t> connections_{0};
  std::atomic<uint32_t> first_new_{0};
  std::unique_ptr<Slot[]> slots_;
};

// SO_COOKIE of a socket, 0 when it cannot be had.
uint64_t SocketCookie(int fd);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_CUSTODY_H_
