// The system calls on the path of a request, as they are.
//
// The C library's own functions let another thread cancel the one that waits in them
// (pthread_cancel(3)). With more than one thread they prepare for that before each call, and take it
// back after: two locked instructions in glibc 2.36, which with five calls are 1.4 % of the CPU of a
// lookup (bench/figures/side_by_side.py: 0.985 +- 0.003 without them through epoll, 0.987 +- 0.003
// through io_uring). Nobody cancels a thread here.
//
// They are those of their names in the manual's section 2: -1 and errno when the call fails.
#ifndef EVERMAP_DAEMON_HOST_UNCANCELLED_H_
#define EVERMAP_DAEMON_HOST_UNCANCELLED_H_

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>

namespace evermap::uncancelled {

// accept4(2) for who does not want the address.
inline int Accept(int fd, int flags) {
  return static_cast<int>(syscall(SYS_accept4, fd, nullptr, nullptr, flags));
}

inline ssize_t Recv(int fd, void* buffer, size_t size, int flags) {
  return syscall(SYS_recvfrom, fd, buffer, size, flags, nullptr, nullptr);
}

inline ssize_t Send(int fd, const void* data, size_t size, int flags) {
  return syscall(SYS_sendto, fd, data, size, flags, nullptr, 0);
}

inline int Close(int fd) {
#ifdef __SANITIZE_THREAD__
  // ThreadSanitizer knows by that function whose a descriptor is.
  return close(fd);
#else
  return static_cast<int>(syscall(SYS_close, fd));
#endif
}

inline int EpollWait(int fd, epoll_event* events, int count_max, int timeout_ms) {
#ifdef SYS_epoll_wait
  return static_cast<int>(syscall(SYS_epoll_wait, fd, events, count_max, timeout_ms));
#else
  // Newer architectures have the other one only, which is the same without a mask.
  return static_cast<int>(syscall(SYS_epoll_pwait, fd, events, count_max, timeout_ms, nullptr, 0));
#endif
}

}  // namespace evermap::uncancelled

#endif  // EVERMAP_DAEMON_HOST_UNCANCELLED_H_
