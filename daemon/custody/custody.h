// Custody: the table of the nodes' connections that this process holds. Each keeps the registration
// in the slot of the same number alive.
//
// A worker takes a node's connection into custody when it has registered the node, and gives it up
// after it has unregistered it and before it closes it. In between any worker may look at the
// connection of a slot, to see whether its node is still there, and the main thread puts a
// duplicate into the store (store.h), which keeps it for the next mapper: into the keeper's a few
// milliseconds later, into systemd's a moment later (deposits.h).
//
// The reply to a registration does not wait for the store. When the mapper dies in between, that
// connection alone is lost: the registration is in the registry, becomes an orphan, and is kept as
// long as its node listens (names/orphans.h).
//
// Thread safety: all members may be called from any thread; TakeNew() from one.
// Invariants:
//   C-1  A connection in custody may be closed by its worker at any moment, and its number be used
//        again. So a caller that looks at it takes a duplicate first, and then believes the
//        duplicate only if its SO_COOKIE is the one in the registration (INV-9). Without that it
//        would shut down, or store, another node's connection.
//   C-2  A slot is on the list of new ones at most once: the thread that sets its mark puts it
//        there, and the mark is cleared before the slot is looked at. So the list cannot become a
//        circle, and an announcement that comes while the slot is looked at is not lost.
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
  // are new ones, `wake_fd` is woken (host/wake_fd.h), which outlives this.
  Custody(uint32_t capacity, uint32_t connections_max, int wake_fd);

  // Counts a connection that is about to be held; false when there are as many as there may be.
  bool Reserve();
  // Undoes Reserve().
  void Release();

  // Holds connection `fd`, which stays the caller's, for the registration in `slot`.
  // REQUIRES: Reserve()d, slot < capacity().
  void Hold(uint32_t slot, int fd);
  // Puts the slot on the list of new ones. To be called when the node has its reply: the next
  // mapper gives none, so a node whose connection was stored before would wait for it for ever.
  // REQUIRES: slot < capacity().
  void Announce(uint32_t slot);
  // As Hold(), for a connection that the store has already. Counts it, however many there are, as
  // one that is no longer awaited, if any is: were it both for a while, a node that registers in
  // between would find no room. False when another connection is held for the slot. Belongs to the
  // main thread, as does SetAwaited().
  bool HoldStored(uint32_t slot, int fd);
  // Ends Hold(), and undoes Reserve(). When another connection is held for the slot meanwhile, that
  // one stays. REQUIRES: slot < capacity().
  void GiveUp(uint32_t slot, int fd);

  // Connections of an earlier mapper are still to come, so many as far as is known: there are that
  // many fewer to Reserve(), and which of its registrations have none is not known yet. Belongs to
  // the main thread, as does SetComplete().
  // `descriptors`: how many of them have not been received yet, and so will take a descriptor each.
  void SetAwaited(uint32_t connections, uint32_t descriptors);
  // All that an earlier mapper had was looked at. So it is at first.
  void SetComplete();
  bool is_complete() const { return is_complete_.load(std::memory_order_acquire); }
  // A predecessor that leaves may still pass on connections that it registers meanwhile, or passes
  // none on any more. Belongs to the main thread.
  void SetAwaitsLate(bool awaits) { awaits_late_.store(awaits, std::memory_order_release); }
  // Whether the connection of a registration that is held is not here, and may be about to come.
  bool MayCome(const Registration& holder) const;
  // As many as SetAwaited() has said last, without those that are held since; 0 when custody is
  // complete.
  uint32_t awaited() const { return awaited_.load(std::memory_order_relaxed); }
  uint32_t awaited_descriptors() const {
    return awaited_descriptors_.load(std::memory_order_relaxed);
  }

  // Calls `visit` with each slot for which Announce() was called since the last time, in no order.
  void TakeNew(absl::FunctionRef<void(uint32_t slot)> visit);

  // The descriptor that is held for a slot; -1 when there is none. See C-1.
  int DescriptorOf(uint32_t slot) const;
  // A duplicate of the connection of a registration; invalid when it is not here (errno: EBADF), or
  // when no descriptor can be had at this moment (EMFILE, ENOMEM, ENOBUFS).
  OwnedFd Duplicate(const Registration& holder) const;
  uint32_t capacity() const { return capacity_; }
  uint32_t connections_max() const { return connections_max_; }

  // Whether the node of a live registration has closed its connection, or the kernel has noticed
  // its death. False when the connection is not here.
  bool HasLeft(const Registration& holder) const;
  // Shuts the connection of a registration down, so that its worker ends it.
  void Shutdown(const Registration& holder) const;

 private:
  struct Slot {
    std::atomic<int> descriptor{0};     // one more than the fd; 0: none
    std::atomic<bool> is_new{false};    // the mark of C-2
    std::atomic<uint32_t> next_new{0};  // one more than the slot; 0: the end
  };

  const uint32_t capacity_;
  const uint32_t connections_max_;
  const int wake_fd_;
  std::atomic<uint32_t> connections_{0};
  std::atomic<uint32_t> awaited_{0};
  std::atomic<uint32_t> awaited_descriptors_{0};
  std::atomic<bool> is_complete_{true};
  std::atomic<bool> awaits_late_{false};
  std::atomic<uint32_t> first_new_{0};  // the list of new ones: one more than the slot
  std::unique_ptr<Slot[]> slots_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_CUSTODY_H_
