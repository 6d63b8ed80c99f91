#include "daemon/custody/custody.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "daemon/host/sock_diag.h"
#include "daemon/host/wake_fd.h"
#include "registry/base/owned_fd.h"

namespace evermap {

Custody::Custody(uint32_t capacity, uint32_t connections_max, int wake_fd)
    : capacity_(capacity),
      connections_max_(connections_max),
      wake_fd_(wake_fd),
      slots_(new Slot[capacity]) {}

bool Custody::Reserve() {
  const uint64_t taken = uint64_t{connections_.fetch_add(1, std::memory_order_relaxed)} + awaited();
  if (taken < connections_max_) return true;
  Release();
  return false;
}

void Custody::Release() { connections_.fetch_sub(1, std::memory_order_relaxed); }

void Custody::Hold(uint32_t slot, int fd) {
  assert(slot < capacity_ && fd >= 0);
  slots_[slot].descriptor.store(fd + 1, std::memory_order_release);
}

void Custody::Announce(uint32_t slot) {
  assert(slot < capacity_);
  Slot& held = slots_[slot];
  if (held.is_new.exchange(true, std::memory_order_acq_rel)) return;
  uint32_t first = first_new_.load(std::memory_order_relaxed);
  do {
    held.next_new.store(first, std::memory_order_relaxed);
  } while (!first_new_.compare_exchange_weak(first, slot + 1, std::memory_order_acq_rel,
                                             std::memory_order_relaxed));
  // A list that was not empty has woken the main thread already, which takes this slot as well.
  if (first == 0) Wake(wake_fd_);
}

bool Custody::HoldStored(uint32_t slot, int fd) {
  assert(slot < capacity_ && fd >= 0);
  int none = 0;
  if (!slots_[slot].descriptor.compare_exchange_strong(none, fd + 1, std::memory_order_acq_rel)) {
    return false;
  }
  connections_.fetch_add(1, std::memory_order_relaxed);
  const uint32_t awaited = awaited_.load(std::memory_order_relaxed);
  if (awaited > 0) awaited_.store(awaited - 1, std::memory_order_relaxed);
  return true;
}

void Custody::GiveUp(uint32_t slot, int fd) {
  assert(slot < capacity_ && fd >= 0);
  int held = fd + 1;
  slots_[slot].descriptor.compare_exchange_strong(held, 0, std::memory_order_acq_rel);
  Release();
}

void Custody::SetAwaited(uint32_t connections, uint32_t descriptors) {
  // More are registered than there are connections when many are orphans.
  awaited_.store(std::min(connections, connections_max_), std::memory_order_relaxed);
  awaited_descriptors_.store(std::min(descriptors, connections_max_), std::memory_order_relaxed);
  is_complete_.store(false, std::memory_order_release);
}

void Custody::SetComplete() {
  awaited_.store(0, std::memory_order_relaxed);
  awaited_descriptors_.store(0, std::memory_order_relaxed);
  is_complete_.store(true, std::memory_order_release);
}

bool Custody::MayCome(const Registration& holder) const {
  if (DescriptorOf(holder.slot) >= 0) return false;
  if (!is_complete()) return true;
  return awaits_late_.load(std::memory_order_acquire) && holder.state == RegistrationState::kLive;
}

void Custody::TakeNew(absl::FunctionRef<void(uint32_t slot)> visit) {
  uint32_t at = first_new_.exchange(0, std::memory_order_acq_rel);
  while (at != 0) {
    Slot& taken = slots_[at - 1];
    const uint32_t next = taken.next_new.load(std::memory_order_relaxed);
    taken.is_new.exchange(false, std::memory_order_acq_rel);
    visit(at - 1);
    at = next;
  }
}

int Custody::DescriptorOf(uint32_t slot) const {
  return slot < capacity_ ? slots_[slot].descriptor.load(std::memory_order_acquire) - 1 : -1;
}

OwnedFd Custody::Duplicate(const Registration& holder) const {
  const int fd = DescriptorOf(holder.slot);
  if (fd < 0) {
    errno = EBADF;
    return OwnedFd();
  }
  OwnedFd duplicate(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate.valid()) return duplicate;
  const uint64_t cookie = SocketCookie(duplicate.get());
  if (cookie != 0 && cookie == holder.connection_cookie) return duplicate;
  // A cookie that cannot be read does not prove that it is another socket: the error is reported
  // instead. Only what is no socket at all is another descriptor for certain.
  const int error = cookie == 0 && errno != ENOTSOCK ? errno : EBADF;
  duplicate = OwnedFd();
  errno = error;
  return duplicate;
}

bool Custody::HasLeft(const Registration& holder) const {
  const OwnedFd connection = Duplicate(holder);
  if (!connection.valid()) return false;
  tcp_info info = {};
  socklen_t size = sizeof(info);
  return getsockopt(connection.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state != TCP_ESTABLISHED;
}

void Custody::Shutdown(const Registration& holder) const {
  const OwnedFd connection = Duplicate(holder);
  // A shutdown fails only when the peer was faster.
  if (connection.valid()) shutdown(connection.get(), SHUT_RDWR);
}

}  // namespace evermap
