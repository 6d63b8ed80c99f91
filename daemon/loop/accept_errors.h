// What errors of accept(2) and recv(2) say: something about one connection, or about the host.
#ifndef EVERMAP_DAEMON_LOOP_ACCEPT_ERRORS_H_
#define EVERMAP_DAEMON_LOOP_ACCEPT_ERRORS_H_

#include <cerrno>

namespace evermap {

// Whether an error of accept(2) is that of the one connection, so that the next may be tried at
// once (accept(2), "Error handling").
inline bool IsErrorOfOneConnection(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:  // a firewall's rule
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

// Whether an error says that the kernel lacks memory just now, and nothing about the connection.
inline bool IsShortage(int error) { return error == ENOMEM || error == ENOBUFS; }

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LOOP_ACCEPT_ERRORS_H_
