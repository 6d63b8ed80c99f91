// What the kernel knows of other processes' TCP sockets (sock_diag(7)): which ones listen.
//
// A listening socket is known by its cookie, a number that the kernel gives out once (in one boot);
// the same that SO_COOKIE tells of one's own.
//
// Thread safety: a ListenerQuery belongs to one thread; ReadListeners() may be called in any.
#ifndef EVERMAP_DAEMON_SOCK_DIAG_H_
#define EVERMAP_DAEMON_SOCK_DIAG_H_

#include <sys/socket.h>

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "registry/segment.h"

namespace evermap {

// All sockets that listen in this network namespace.
class Listeners {
 public:
  void Add(uint16_t port, uint64_t cookie);
  bool Has(uint64_t cookie) const { return cookies_.contains(cookie); }
  // Of the one socket that listens on `port`; 0 when there is none, or several.
  uint64_t CookieOf(uint16_t port) const;

 private:
  absl::flat_hash_set<uint64_t> cookies_;
  absl::flat_hash_map<uint16_t, uint64_t> by_port_;  // 0: several
};
// kUnavailable when the kernel does not tell (no sock_diag, a seccomp filter).
absl::StatusOr<Listeners> ReadListeners();

// Asks for single sockets, over one netlink socket that is kept.
class ListenerQuery {
 public:
  // The cookie of the socket to which a connection to `port` of `address` would go. 0 when there is
  // none, or the kernel does not tell.
  uint64_t CookieOf(const sockaddr_storage& address, uint16_t port);

 private:
  OwnedFd netlink_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SOCK_DIAG_H_
