#include "daemon/custody.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "registry/segment.h"

namespace evermap {
namespace {

// A duplicate of the connection that holds a registration; invalid when it is gone (C-1).
OwnedFd ConnectionOf(const Custody& custody, const Registration& holder) {
  const int fd = custody.DescriptorOf(holder.slot);
  OwnedFd duplicate(fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate.valid() || holder.connection_cookie == 0 ||
      SocketCookie(duplicate.get()) != holder.connection_cookie) {
    return OwnedFd();
  }
  return duplicate;
}

}  // namespace

uint64_t SocketCookie(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

Custody::Custody(uint32_t capacity, uint32_t connections_max)
    : capacity_(capacity),
      connections_max_(connections_max),
      descriptors_(new std::atomic<int>[capacity]()) {}

bool Custody::Reserve() {
  if (connections_.fetch_add(1, std::memory_order_relaxed) < connections_max_) return true;
  Release();
  return false;
}

void Custody::Release() { connections_.fetch_sub(1, std::memory_order_relaxed); }

void Custody::Hold(uint32_t slot, int fd) {
  descriptors_[slot].store(fd + 1, std::memory_order_release);
}

void Custody::GiveUp(uint32_t slot, int fd) {
  int held = fd + 1;
  descriptors_[slot].compare_exchange_strong(held, 0, std::memory_order_acq_rel);
  Release();
}

int Custody::DescriptorOf(uint32_t slot) const {
  return slot < capacity_ ? descriptors_[slot].load(std::memory_order_acquire) - 1 : -1;
}

bool Custody::HasLeft(const Registration& holder) const {
  const OwnedFd connection = ConnectionOf(*this, holder);
  if (!connection.valid()) return false;
  tcp_info info = {};
  socklen_t size = sizeof(info);
  return getsockopt(connection.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state != TCP_ESTABLISHED;
}

void Custody::Shutdown(const Registration& holder) const {
  const OwnedFd connection = ConnectionOf(*this, holder);
  // Fails only when the peer was faster.
  if (connection.valid()) shutdown(connection.get(), SHUT_RDWR);
}

}  // namespace evermap
