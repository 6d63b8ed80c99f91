#include "daemon/process/needed_calls.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr int kNoFd = -2;  // neither a descriptor nor what asks for a new one

// The call has failed as one that was made with no descriptor does, or not at all.
bool IsMade(int64_t result) { return result >= 0 || errno == EBADF; }
// A call that gives a new descriptor, which is closed again.
bool IsMadeAndClosed(int result) { return OwnedFd(result).valid(); }

// What a kernel says to a call that it does not have, or a filter to one that it forbids. All else is said
// where it matters.
bool IsRefusal(int error) {
  return error == ENOSYS || error == EPERM || error == EACCES || error == EINVAL ||
         error == EOPNOTSUPP;
}

struct NeededCall {
  const char* name;
  bool (*is_made)();
};

// By raw numbers where the C library would not make the call, or make another.
constexpr std::array<NeededCall, 26> kNeeded = {{
    {"accept4", [] { return IsMade(accept4(kNoFd, nullptr, nullptr, 0)); }},
    {"bind", [] { return IsMade(bind(kNoFd, nullptr, 0)); }},
    {"dup", [] { return IsMade(dup(kNoFd)); }},
    {"dup2", [] { return IsMade(dup2(kNoFd, kNoFd)); }},
    {"epoll_create1", [] { return IsMadeAndClosed(epoll_create1(EPOLL_CLOEXEC)); }},
    {"epoll_ctl",
     [] {
       epoll_event event = {};
       return IsMade(epoll_ctl(kNoFd, EPOLL_CTL_ADD, kNoFd, &event));
     }},
    {"epoll_wait",
     [] {
       epoll_event event = {};
       return IsMade(epoll_wait(kNoFd, &event, 1, 0));
     }},
    {"eventfd2", [] { return IsMadeAndClosed(eventfd(0, EFD_CLOEXEC)); }},
    {"fcntl", [] { return IsMade(fcntl(kNoFd, F_GETFD)); }},
    {"geteuid",
     [] {
       // The C library does not look whether it has failed.
       return syscall(SYS_geteuid) >= 0;
     }},
    {"getpeername",
     [] {
       socklen_t size = 0;
       return IsMade(getpeername(kNoFd, nullptr, &size));
     }},
    {"getpid", [] { return IsMade(syscall(SYS_getpid)); }},
    {"getsockopt",
     [] {
       int value = 0;
       socklen_t size = sizeof(value);
       return IsMade(getsockopt(kNoFd, SOL_SOCKET, SO_TYPE, &value, &size));
     }},
    {"listen", [] { return IsMade(listen(kNoFd, 1)); }},
    {"poll", [] { return IsMade(poll(nullptr, 0, 0)); }},
    {"recvfrom", [] { return IsMade(recv(kNoFd, nullptr, 0, 0)); }},
    {"recvmsg",
     [] {
       msghdr message = {};
       return IsMade(recvmsg(kNoFd, &message, 0));
     }},
    {"rt_sigprocmask",
     [] {
       sigset_t mask;
       return IsMade(sigprocmask(SIG_BLOCK, nullptr, &mask));
     }},
    {"sendmsg",
     [] {
       const msghdr message = {};
       return IsMade(sendmsg(kNoFd, &message, 0));
     }},
    {"sendto", [] { return IsMade(send(kNoFd, nullptr, 0, 0)); }},
    {"setsockopt", [] { return IsMade(setsockopt(kNoFd, SOL_SOCKET, SO_REUSEADDR, nullptr, 0)); }},
    {"shutdown", [] { return IsMade(shutdown(kNoFd, SHUT_RD)); }},
    {"signalfd4",
     [] {
       sigset_t none;
       sigemptyset(&none);
       return IsMade(signalfd(kNoFd, &none, 0));
     }},
    {"socket", [] { return IsMadeAndClosed(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)); }},
    {"socketpair",
     [] {
       int ends[2];
       if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
       close(ends[0]);
       close(ends[1]);
       return true;
     }},
    // A process that is none's child.
    {"wait4", [] { return waitpid(getpid(), nullptr, WNOHANG) >= 0 || errno == ECHILD; }},
}};

}  // namespace

absl::Status TryNeededCalls() {
  for (const NeededCall& call : kNeeded) {
    if (call.is_made() || !IsRefusal(errno)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the system call ", call.name, " is refused: ", ErrorText(errno),
                     "; the kernel, or a filter of system calls (seccomp), has to allow it"));
  }
  return absl::OkStatus();
}

}  // namespace evermap
