// What the kernel knows of other processes' TCP sockets (sock_diag(7)): which ones listen, and
// whose one is. It knows the user who made a socket, but not the process that has it.
//
// A socket is known by its cookie, a number that the kernel gives out once (in one boot);
// SocketCookie() tells that of one's own.
//
// Where it does not tell (a seccomp filter, RestrictAddressFamilies=, a kernel without INET_DIAG), a
// SocketQuery can read /proc/net/tcp instead (proc_sockets.h), which has users, but no cookies.
//
// Thread safety: a SocketQuery belongs to one thread; the functions may be called in any.
#ifndef EVERMAP_DAEMON_HOST_SOCK_DIAG_H_
#define EVERMAP_DAEMON_HOST_SOCK_DIAG_H_

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// SO_COOKIE of a socket; 0 with errno when it cannot be had.
uint64_t SocketCookie(int fd);

inline constexpr uint32_t kUnknownUid = ~0u;

// A socket that listens.
struct TcpListener {
  uint64_t cookie = 0;         // 0 when it is not told
  uint32_t uid = kUnknownUid;  // of the user who made it; kUnknownUid when it is not told
  uint32_t inode = 0;          // by which /proc/PID/fd shows it; 0 when it is not told
};

// All sockets that listen in this network namespace.
class Listeners {
 public:
  void Add(uint16_t port, uint64_t cookie, uint32_t inode, uint32_t uid);
  bool Has(uint64_t cookie) const { return inodes_.contains(cookie); }
  // The number that /proc/PID/fd shows it by; 0 when there is no such socket.
  uint32_t InodeOf(uint64_t cookie) const;
  // The one socket that listens on `port`; nothing when there is none, or several.
  std::optional<TcpListener> OnlyOneOn(uint16_t port) const;

 private:
  absl::flat_hash_map<uint64_t, uint32_t> inodes_;      // by cookie
  absl::flat_hash_map<uint16_t, TcpListener> by_port_;  // with the cookie 0: several
};
// kUnavailable when the kernel does not tell (no sock_diag, a seccomp filter).
absl::StatusOr<Listeners> ReadListeners();

// Asks for single sockets, over one netlink socket that is kept.
class SocketQuery {
 public:
  // What is asked where the kernel does not tell. /proc takes 10 to 50 ms, as the kernel walks along
  // all connections of the host; so it is read for at most a tenth of the time, and tells nothing
  // in between.
  enum class Fallback { kNone, kProc };
  explicit SocketQuery(Fallback fallback) : fallback_(fallback) {}

  // The socket to which a connection to `port` of `address` would go. Nothing when there is none,
  // and when the kernel does not tell. Costs 5 us, however many sockets there are.
  std::optional<TcpListener> ListenerFor(const sockaddr_storage& address, uint16_t port);

  // All sockets that listen on `port`, of whichever address. kUnavailable when neither the kernel
  // nor the fallback tells; that tells only after a PeerUid() that it has answered. The kernel looks
  // at all that listen: 1.2 ms with 6,000.
  absl::StatusOr<std::vector<TcpListener>> ListenersOn(uint16_t port);

  // The user who made the socket at the other end of connection `fd`. kUnknownUid
  // when that end is on another host or in another network namespace than this process, when it is
  // closed, when the user has no number in this process's user namespace, and when neither the
  // kernel nor the fallback tells.
  uint32_t PeerUid(int fd);

 private:
  // Whether the kernel tells.
  bool Open();

  const Fallback fallback_;
  // Whether the last PeerUid() has read /proc, and before when the next one may not, MonotonicNs().
  bool has_read_proc_ = false;
  int64_t next_proc_ns_ = 0;

  OwnedFd netlink_;
  // The kernel has no sock_diag for TCP, although it has the netlink family.
  bool is_missing_ = false;
  uint64_t network_namespace_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_SOCK_DIAG_H_
