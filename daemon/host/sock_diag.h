// What the kernel knows of other processes' TCP sockets (sock_diag(7)): which ones listen, and
// whose one is. It knows the user who made a socket, but not the process that has it.
//
// A socket is known by its cookie, a number that the kernel gives out once (in one boot);
// SocketCookie() tells that of one's own.
//
// Thread safety: a SocketQuery belongs to one thread; the functions may be called in any.
#ifndef EVERMAP_DAEMON_HOST_SOCK_DIAG_H_
#define EVERMAP_DAEMON_HOST_SOCK_DIAG_H_

#include <sys/socket.h>

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// SO_COOKIE of a socket; 0 with errno when it cannot be had.
uint64_t SocketCookie(int fd);

// All sockets that listen in this network namespace.
class Listeners {
 public:
  void Add(uint16_t port, uint64_t cookie, uint32_t inode);
  bool Has(uint64_t cookie) const { return inodes_.contains(cookie); }
  // The number that /proc/PID/fd shows it by; 0 when there is no such socket.
  uint32_t InodeOf(uint64_t cookie) const;
  // Of the one socket that listens on `port`; 0 when there is none, or several.
  uint64_t CookieOf(uint16_t port) const;

 private:
  absl::flat_hash_map<uint64_t, uint32_t> inodes_;   // by cookie
  absl::flat_hash_map<uint16_t, uint64_t> by_port_;  // 0: several
};
// kUnavailable when the kernel does not tell (no sock_diag, a seccomp filter).
absl::StatusOr<Listeners> ReadListeners();

inline constexpr uint32_t kUnknownUid = ~0u;

// Asks for single sockets, over one netlink socket that is kept.
class SocketQuery {
 public:
  // The cookie of the socket to which a connection to `port` of `address` would go. 0 when there is
  // none, or the kernel does not tell.
  uint64_t ListenerCookie(const sockaddr_storage& address, uint16_t port);

  // The user who made the socket at the other end of connection `fd`. kUnknownUid
  // when that end is on another host or in another network namespace than this process, when it is
  // closed, when the user has no number in this process's user namespace, and when the kernel does
  // not tell.
  uint32_t PeerUid(int fd);

 private:
  bool Open();

  OwnedFd netlink_;
  uint64_t network_namespace_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_SOCK_DIAG_H_
