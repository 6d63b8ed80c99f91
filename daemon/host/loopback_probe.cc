#include "daemon/host/loopback_probe.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>

#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

// Whether the socket has become the peer of itself: that can happen when nobody listens on a port
// from which the kernel takes those of outgoing connections.
bool IsConnectedToItself(int fd) {
  sockaddr_storage here = {};
  sockaddr_storage there = {};
  socklen_t here_size = sizeof(here);
  socklen_t there_size = sizeof(there);
  return getsockname(fd, reinterpret_cast<sockaddr*>(&here), &here_size) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&there), &there_size) == 0 &&
         here_size == there_size && std::memcmp(&here, &there, here_size) == 0;
}

ProbeResult Probe(const sockaddr* address, socklen_t size) {
  const OwnedFd fd(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    // A host without the family has nobody who listens.
    return errno == EAFNOSUPPORT ? ProbeResult::kRefused : ProbeResult::kUnknown;
  }
  // Closing resets the connection, so that nothing of it stays for a minute.
  constexpr linger kReset = {1, 0};
  constexpr timeval kTimeout = {0, kProbeTimeoutMs * 1000};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &kReset, sizeof(kReset));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kTimeout, sizeof(kTimeout));
  if (connect(fd.get(), address, size) == 0) {
    return IsConnectedToItself(fd.get()) ? ProbeResult::kRefused : ProbeResult::kAccepted;
  }
  switch (errno) {
    case ECONNREFUSED:
      return ProbeResult::kRefused;
    // A host whose loopback has no IPv6. Of IPv4 it says that no port is free for the connection.
    case EADDRNOTAVAIL:
    case ENETUNREACH:
      return address->sa_family == AF_INET6 ? ProbeResult::kRefused : ProbeResult::kUnknown;
    case EINPROGRESS:  // SO_SNDTIMEO is over
    case ETIMEDOUT:
    case ECONNRESET:
      return ProbeResult::kAccepted;
    default:
      return ProbeResult::kUnknown;
  }
}

}  // namespace

ProbeResult ProbeLoopback(uint16_t port) {
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const ProbeResult first = Probe(reinterpret_cast<const sockaddr*>(&v4), sizeof(v4));
  if (first == ProbeResult::kAccepted) return first;
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  v6.sin6_addr = in6addr_loopback;
  const ProbeResult second = Probe(reinterpret_cast<const sockaddr*>(&v6), sizeof(v6));
  return second == ProbeResult::kRefused ? first : second;
}

}  // namespace evermap
