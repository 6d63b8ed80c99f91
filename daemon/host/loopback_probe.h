// Whether somebody listens on a port of this host, where the kernel does not tell (sock_diag.h): by
// a connection over loopback, which is reset at once.
//
// It says less than sock_diag: not who listens, and of a socket that listens on another address
// than loopback's nothing.
//
// Thread safety: may be called in any thread.
#ifndef EVERMAP_DAEMON_HOST_LOOPBACK_PROBE_H_
#define EVERMAP_DAEMON_HOST_LOOPBACK_PROBE_H_

#include <cstdint>

namespace evermap {

enum class ProbeResult {
  kAccepted,  // somebody listens, or does not answer in time: his queue of connections is full
  kRefused,   // nobody listens, neither on 127.0.0.1 nor on ::1
  kUnknown,   // no connection could be tried
};
// Takes some 30 us, and at most kProbeTimeoutMs for each of the two addresses.
ProbeResult ProbeLoopback(uint16_t port);

inline constexpr int kProbeTimeoutMs = 20;

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_LOOPBACK_PROBE_H_
