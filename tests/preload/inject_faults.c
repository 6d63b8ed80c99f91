// Preloaded into a mapper (LD_PRELOAD), lets its system calls fail. For machine_faults_test.py,
// each_call_test.py and faults_compare.py.
//
//   FAULTS
//     a plan: "CALL=ERRNO/PER_MILLE;..." with ERRNO a number; one call may be there several times
//   FAULTS_SEED
//     a number; the same seed and order of calls give the same faults
//   FAULTS_SWITCH
//     a file as struct Switch below says: whether faults are injected now, how many were, and
//     beside the plan one call that fails once, in the process that gets first to its number, or
//     that succeeds and is the last of its process, which is killed then
//
// Operations of a ring do not pass the C library, but liburing's functions that ask for them do:
//
//   ring_init, ring_probe   the ring is refused
//   ring_enter              io_uring_enter(2) fails, and nothing was submitted
//   ring_accept, ring_poll  an accept, or a poll, that is pending ends with the error. The kernel
//                           is told to cancel it, and its last completion says something else: so
//                           it is in truth not pending any more, as after an error of the kernel's.
//
// accept, select, read, write and close are there for the stock epmd; close fails as the kernel's
// does, which has given the descriptor up by then.
//
// What is not in the plan, and all while the switch is off, is as it was. Processes that the mapper
// starts inherit it.
// Function pointers out of dlsym(), and glibc's unions of socket addresses, are not ISO C.
#pragma GCC diagnostic ignored "-Wpedantic"
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kFaultsMax = 64, kNameMax = 24, kAskedMax = 64, kKilled = -1 };

struct Fault {
  char call[kNameMax];
  int error;
  unsigned per_mille;
};
struct Switch {
  _Atomic uint32_t is_on;
  _Atomic uint32_t turn;  // another number each time that what follows was changed
  _Atomic uint64_t injected;
  _Atomic int64_t clock_offset_s;  // by which the wall clock is wrong
  _Atomic uint32_t only_number;    // of calls since that turn, from 1; 0: none, or it has been
  int32_t only_error;              // kKilled: none; SIGKILL comes after the call
  char only_call[kNameMax];
};

static struct Fault faults[kFaultsMax];
static int fault_count;
static uint64_t seed;
static _Atomic uint64_t drawn_before;
static _Thread_local int is_last_call;
static struct Switch off;
static struct Switch* shared = &off;

static uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

// Whether it is this call's turn to be the one that fails.
static int IsTheOnly(const char* call) {
  static _Atomic uint64_t counted;  // of which turn, and how many
  uint32_t number = atomic_load(&shared->only_number);
  if (number == 0 || strcmp(shared->only_call, call) != 0) return 0;
  const uint64_t now = (uint64_t)atomic_load(&shared->turn) << 32;
  uint64_t before = atomic_load(&counted);
  uint64_t after;
  do {
    after = (before >> 32 == now >> 32 ? before : now) + 1;
  } while (!atomic_compare_exchange_weak(&counted, &before, after));
  return (uint32_t)after == number &&
         atomic_compare_exchange_strong(&shared->only_number, &number, 0);
}

// Whether this call is to fail; errno is then what it fails with.
static int Fails(const char* call) {
  if (!atomic_load_explicit(&shared->is_on, memory_order_relaxed)) return 0;
  if (IsTheOnly(call)) {
    atomic_fetch_add(&shared->injected, 1);
    is_last_call = shared->only_error == kKilled;
    if (is_last_call) return 0;
    errno = shared->only_error;
    return 1;
  }
  for (int i = 0; i < fault_count; ++i) {
    if (strcmp(faults[i].call, call) != 0) continue;
    const uint64_t drawn = Mix(seed + atomic_fetch_add(&drawn_before, 1) * 0x9e3779b97f4a7c15u);
    if (drawn % 1000 >= faults[i].per_mille) continue;
    atomic_fetch_add(&shared->injected, 1);
    errno = faults[i].error;
    return 1;
  }
  return 0;
}

#define REAL(name) static __typeof__(name)* real_##name
REAL(accept);
REAL(accept4);
REAL(access);
REAL(bind);
REAL(clock_gettime);
REAL(close);
REAL(connect);
REAL(dup);
REAL(dup3);
REAL(epoll_create1);
REAL(epoll_ctl);
REAL(epoll_wait);
REAL(execve);
REAL(fchmod);
REAL(fchown);
REAL(fdopendir);
REAL(fork);
REAL(fstat64);
REAL(fsync);
REAL(getpeername);
REAL(getrandom);
REAL(getrlimit64);
REAL(getsockname);
REAL(getsockopt);
REAL(inotify_add_watch);
REAL(inotify_init1);
REAL(link);
REAL(linkat);
REAL(listen);
REAL(memfd_create);
REAL(mkdir);
REAL(opendir);
REAL(pipe2);
REAL(poll);
REAL(pread64);
REAL(pthread_create);
REAL(pwritev64v2);
REAL(read);
REAL(readlink);
REAL(recv);
REAL(recvmsg);
REAL(rename);
REAL(renameat2);
REAL(sched_getaffinity);
REAL(select);
REAL(send);
REAL(sendmsg);
REAL(setrlimit64);
REAL(setsockopt);
REAL(socket);
REAL(socketpair);
REAL(stat64);
REAL(syscall);
REAL(timerfd_create);
REAL(timerfd_settime);
REAL(unlink);
REAL(waitid);
REAL(waitpid);
REAL(write);
static int (*real_eventfd)(unsigned, int);
static int (*real_fallocate64)(int, int, off64_t, off64_t);
static int (*real_fcntl64)(int, int, ...);
static int (*real_ftruncate64)(int, off64_t);
static void* (*real_mmap64)(void*, size_t, int, int, int, off64_t);
static int (*real_open64)(const char*, int, ...);
static int (*real_openat64)(int, const char*, int, ...);
static int (*real_pidfd_open)(pid_t, unsigned);
static int (*real_kill)(pid_t, int);
static int (*real_pidfd_send_signal)(int, int, void*, unsigned);
static int (*real_signalfd)(int, const void*, int);
REAL(io_uring_queue_init_params);
REAL(io_uring_register_probe);
REAL(io_uring_submit);
REAL(io_uring_submit_and_wait);
REAL(io_uring_submit_and_wait_timeout);

static void* Find(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (found == NULL) abort();
  return found;
}

#define FIND(name) real_##name = (__typeof__(real_##name))Find(#name)
__attribute__((constructor)) static void Start(void) {
// Not every program has a ring.
#define FIND_RING(name) real_##name = (__typeof__(real_##name))dlsym(RTLD_NEXT, #name)
  FIND_RING(io_uring_queue_init_params);
  FIND_RING(io_uring_register_probe);
  FIND_RING(io_uring_submit);
  FIND_RING(io_uring_submit_and_wait);
  FIND_RING(io_uring_submit_and_wait_timeout);
  FIND(accept);
  FIND(accept4);
  FIND(access);
  FIND(bind);
  FIND(clock_gettime);
  FIND(close);
  FIND(connect);
  FIND(dup);
  FIND(dup3);
  FIND(epoll_create1);
  FIND(epoll_ctl);
  FIND(epoll_wait);
  FIND(eventfd);
  FIND(execve);
  FIND(fallocate64);
  FIND(fchmod);
  FIND(fchown);
  FIND(fcntl64);
  FIND(fdopendir);
  FIND(fork);
  FIND(fstat64);
  FIND(fsync);
  FIND(ftruncate64);
  FIND(getpeername);
  FIND(getrandom);
  FIND(getrlimit64);
  FIND(getsockname);
  FIND(getsockopt);
  FIND(inotify_add_watch);
  FIND(inotify_init1);
  FIND(kill);
  FIND(link);
  FIND(linkat);
  FIND(listen);
  FIND(memfd_create);
  FIND(mkdir);
  FIND(mmap64);
  FIND(open64);
  FIND(openat64);
  FIND(opendir);
  FIND(pidfd_open);
  FIND(pidfd_send_signal);
  FIND(pipe2);
  FIND(poll);
  FIND(pread64);
  FIND(pthread_create);
  FIND(pwritev64v2);
  FIND(read);
  FIND(readlink);
  FIND(recv);
  FIND(recvmsg);
  FIND(rename);
  FIND(renameat2);
  FIND(sched_getaffinity);
  FIND(select);
  FIND(send);
  FIND(sendmsg);
  FIND(setrlimit64);
  FIND(setsockopt);
  FIND(signalfd);
  FIND(socket);
  FIND(socketpair);
  FIND(stat64);
  FIND(syscall);
  FIND(timerfd_create);
  FIND(timerfd_settime);
  FIND(unlink);
  FIND(waitid);
  FIND(waitpid);
  FIND(write);
  const char* plan = getenv("FAULTS");
  const char* path = getenv("FAULTS_SWITCH");
  const char* number = getenv("FAULTS_SEED");
  if (path == NULL) return;
  // Processes of one mapper shall not fail in step.
  seed = Mix((number == NULL ? 0 : strtoull(number, NULL, 10)) + (uint64_t)getpid());
  while (plan != NULL && *plan != '\0' && fault_count < kFaultsMax) {
    struct Fault* fault = &faults[fault_count++];
    const size_t size = strcspn(plan, "=");
    if (size >= kNameMax || plan[size] != '=') abort();
    memcpy(fault->call, plan, size);
    char* end;
    fault->error = (int)strtol(plan + size + 1, &end, 10);
    if (*end != '/') abort();
    fault->per_mille = (unsigned)strtoul(end + 1, &end, 10);
    plan = *end == ';' ? end + 1 : end;
  }
  const int fd = real_open64(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void* base = real_mmap64(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base != MAP_FAILED) shared = base;
  real_close(fd);
}

// Libraries that start before this one may call these before Start().
#define CALL(result, name, parameters, arguments)   \
  result name parameters {                          \
    if (real_##name == NULL) FIND(name);            \
    if (Fails(#name)) return (result)-1;            \
    result returned = real_##name arguments;        \
    if (is_last_call) real_kill(getpid(), SIGKILL); \
    return returned;                                \
  }
CALL(int, accept, (int fd, struct sockaddr* address, socklen_t* size), (fd, address, size))
CALL(int, accept4, (int fd, struct sockaddr* address, socklen_t* size, int flags),
     (fd, address, size, flags))
CALL(int, bind, (int fd, const struct sockaddr* address, socklen_t size), (fd, address, size))
CALL(int, dup, (int fd), (fd))
CALL(int, epoll_create1, (int flags), (flags))
CALL(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event* event),
     (epoll, operation, fd, event))
CALL(int, epoll_wait, (int epoll, struct epoll_event* events, int most, int timeout),
     (epoll, events, most, timeout))
CALL(int, eventfd, (unsigned value, int flags), (value, flags))
CALL(int, fallocate64, (int fd, int mode, off64_t offset, off64_t size), (fd, mode, offset, size))
CALL(int, fchmod, (int fd, mode_t mode), (fd, mode))
CALL(pid_t, fork, (void), ())
CALL(int, fsync, (int fd), (fd))
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size))
CALL(int, getpeername, (int fd, struct sockaddr* address, socklen_t* size), (fd, address, size))
CALL(int, getsockopt, (int fd, int level, int option, void* value, socklen_t* size),
     (fd, level, option, value, size))
CALL(int, kill, (pid_t pid, int signal), (pid, signal))
CALL(int, linkat, (int from, const char* old, int to, const char* name, int flags),
     (from, old, to, name, flags))
CALL(int, listen, (int fd, int backlog), (fd, backlog))
CALL(void*, mmap64, (void* at, size_t size, int protection, int flags, int fd, off64_t offset),
     (at, size, protection, flags, fd, offset))
CALL(int, pidfd_open, (pid_t pid, unsigned flags), (pid, flags))
CALL(int, pidfd_send_signal, (int pidfd, int signal, void* info, unsigned flags),
     (pidfd, signal, info, flags))
CALL(int, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
CALL(ssize_t, read, (int fd, void* data, size_t size), (fd, data, size))
CALL(ssize_t, recv, (int fd, void* data, size_t size, int flags), (fd, data, size, flags))
CALL(ssize_t, recvmsg, (int fd, struct msghdr* message, int flags), (fd, message, flags))
CALL(int, rename, (const char* from, const char* to), (from, to))
CALL(int, select,
     (int end, fd_set* to_read, fd_set* to_write, fd_set* exceptional, struct timeval* timeout),
     (end, to_read, to_write, exceptional, timeout))
CALL(ssize_t, send, (int fd, const void* data, size_t size, int flags), (fd, data, size, flags))
CALL(ssize_t, sendmsg, (int fd, const struct msghdr* message, int flags), (fd, message, flags))
CALL(int, setsockopt, (int fd, int level, int option, const void* value, socklen_t size),
     (fd, level, option, value, size))
CALL(int, signalfd, (int fd, const sigset_t* mask, int flags), (fd, mask, flags))
CALL(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
CALL(int, socketpair, (int domain, int type, int protocol, int ends[2]),
     (domain, type, protocol, ends))
CALL(ssize_t, write, (int fd, const void* data, size_t size), (fd, data, size))

CALL(int, access, (const char* path, int mode), (path, mode))
CALL(int, connect, (int fd, const struct sockaddr* address, socklen_t size), (fd, address, size))
CALL(int, dup3, (int fd, int other, int flags), (fd, other, flags))
CALL(int, execve, (const char* path, char* const* argv, char* const* envp), (path, argv, envp))
CALL(int, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))
CALL(int, fstat64, (int fd, struct stat64* file), (fd, file))
CALL(ssize_t, getrandom, (void* data, size_t size, unsigned flags), (data, size, flags))
CALL(int, getsockname, (int fd, struct sockaddr* address, socklen_t* size), (fd, address, size))
CALL(int, inotify_add_watch, (int fd, const char* path, uint32_t mask), (fd, path, mask))
CALL(int, inotify_init1, (int flags), (flags))
CALL(int, link, (const char* from, const char* to), (from, to))
CALL(int, memfd_create, (const char* name, unsigned flags), (name, flags))
CALL(int, mkdir, (const char* path, mode_t mode), (path, mode))
CALL(int, pipe2, (int ends[2], int flags), (ends, flags))
CALL(ssize_t, pread64, (int fd, void* data, size_t size, off64_t offset), (fd, data, size, offset))
CALL(ssize_t, pwritev64v2,
     (int fd, const struct iovec* parts, int count, off64_t offset, int flags),
     (fd, parts, count, offset, flags))
CALL(ssize_t, readlink, (const char* path, char* data, size_t size), (path, data, size))
CALL(int, renameat2, (int from, const char* old, int to, const char* name, unsigned flags),
     (from, old, to, name, flags))
CALL(int, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t* cpus), (pid, size, cpus))
CALL(int, stat64, (const char* path, struct stat64* file), (path, file))
CALL(int, timerfd_create, (int clock, int flags), (clock, flags))
CALL(int, timerfd_settime,
     (int fd, int flags, const struct itimerspec* wanted, struct itimerspec* before),
     (fd, flags, wanted, before))
CALL(int, unlink, (const char* path), (path))
CALL(int, waitid, (idtype_t kind, id_t id, siginfo_t* info, int options), (kind, id, info, options))
CALL(pid_t, waitpid, (pid_t pid, int* status, int options), (pid, status, options))

// Two that return a pointer, and one that returns its error.
DIR* opendir(const char* path) {
  if (real_opendir == NULL) FIND(opendir);
  return Fails("opendir") ? NULL : real_opendir(path);
}

DIR* fdopendir(int fd) {
  if (real_fdopendir == NULL) FIND(fdopendir);
  return Fails("fdopendir") ? NULL : real_fdopendir(fd);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) {
  if (real_pthread_create == NULL) FIND(pthread_create);
  return Fails("pthread_create") ? errno : real_pthread_create(thread, attributes, start, argument);
}

// The resource is an enum of glibc's in GNU C.
int getrlimit64(__rlimit_resource_t resource, struct rlimit64* limit) {
  if (real_getrlimit64 == NULL) FIND(getrlimit64);
  return Fails("getrlimit64") ? -1 : real_getrlimit64(resource, limit);
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64* limit) {
  if (real_setrlimit64 == NULL) FIND(setrlimit64);
  return Fails("setrlimit64") ? -1 : real_setrlimit64(resource, limit);
}

int close(int fd) {
  if (real_close == NULL) FIND(close);
  const int result = real_close(fd);
  return result == 0 && Fails("close") ? -1 : result;
}

// The name of a call that the mapper makes without the C library's function of that name.
static const char* NameOf(long number) {
  switch (number) {
    case SYS_accept4:
      return "accept4";
    case SYS_close:
      return "close";
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#else
    case SYS_epoll_pwait:
#endif
      return "epoll_wait";
    case SYS_recvfrom:
      return "recv";
    case SYS_sendto:
      return "send";
    default:
      return NULL;
  }
}

long syscall(long number, ...) {
  if (real_syscall == NULL) FIND(syscall);
  long arguments[6];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; ++i) arguments[i] = va_arg(rest, long);
  va_end(rest);
  const char* name = NameOf(number);
  if (name != NULL && number != SYS_close && Fails(name)) return -1;
  const long result = real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                                   arguments[4], arguments[5]);
  if (is_last_call) real_kill(getpid(), SIGKILL);
  return number == SYS_close && result == 0 && Fails(name) ? -1 : result;
}

int fcntl64(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  // To give up the whole of a lock takes the kernel no memory.
  const int is_lock = command == F_SETLK || command == F_OFD_SETLK;
  const int is_unlock = is_lock && ((const struct flock*)argument)->l_type == F_UNLCK;
  return !is_unlock && Fails("fcntl64") ? -1 : real_fcntl64(fd, command, argument);
}

int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return Fails("open64") ? -1 : real_open64(path, flags, mode);
}

int openat64(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return Fails("openat64") ? -1 : real_openat64(directory, path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec* now) {
  const int result = real_clock_gettime(clock, now);
  if (result == 0 && clock == CLOCK_REALTIME) {
    now->tv_sec += atomic_load_explicit(&shared->clock_offset_s, memory_order_relaxed);
  }
  return result;
}

// What a thread has asked its ring for. A ring belongs to one thread here.
struct Asked {
  uint64_t user_data;
  const char* call;
  int error;  // that its end is to say; 0: the truth
};
static _Thread_local struct Asked asked[kAskedMax];
static _Thread_local int asked_count;

static const char* CallOf(const struct io_uring_sqe* sqe) {
  switch (sqe->opcode) {
    case IORING_OP_ACCEPT:
      return "ring_accept";
    case IORING_OP_POLL_ADD:
      return "ring_poll";
    default:
      return NULL;
  }
}

static void NoteAsked(const struct io_uring_sqe* sqe) {
  const char* call = CallOf(sqe);
  if (call == NULL) return;
  for (int i = 0; i < asked_count; ++i) {
    if (asked[i].user_data == sqe->user_data) return;
  }
  if (asked_count == kAskedMax) abort();
  asked[asked_count++] = (struct Asked){sqe->user_data, call, 0};
}

// Before the ring is entered: ends some of what was asked for before.
static void EndSome(struct io_uring* ring) {
  for (int i = 0; i < asked_count; ++i) {
    if (asked[i].error != 0 || !Fails(asked[i].call)) continue;
    const int error = errno;
    struct io_uring_sync_cancel_reg what = {
        .addr = asked[i].user_data, .fd = -1, .timeout = {.tv_sec = -1, .tv_nsec = -1}};
    // Nothing, when it is not pending now.
    if (syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_SYNC_CANCEL, &what, 1) < 0) {
      atomic_fetch_sub(&shared->injected, 1);
    } else {
      asked[i].error = error;
    }
  }
  for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; ++at) {
    NoteAsked(&ring->sq.sqes[at & ring->sq.ring_mask]);
  }
}

static void TellLies(struct io_uring* ring) {
  struct io_uring_cqe* cqe;
  unsigned head;
  io_uring_for_each_cqe(ring, head, cqe) {
    for (int i = 0; i < asked_count; ++i) {
      if (asked[i].error == 0 || asked[i].user_data != cqe->user_data) continue;
      // It may have had something to say before.
      if (cqe->res != -ECANCELED) continue;
      cqe->res = -asked[i].error;
      asked[i].error = 0;
    }
  }
}

int io_uring_queue_init_params(unsigned entries, struct io_uring* ring,
                               struct io_uring_params* params) {
  return Fails("ring_init") ? -errno : real_io_uring_queue_init_params(entries, ring, params);
}

int io_uring_register_probe(struct io_uring* ring, struct io_uring_probe* probe, unsigned count) {
  return Fails("ring_probe") ? -errno : real_io_uring_register_probe(ring, probe, count);
}

int io_uring_submit(struct io_uring* ring) {
  if (Fails("ring_enter")) return -errno;
  EndSome(ring);
  const int result = real_io_uring_submit(ring);
  TellLies(ring);
  return result;
}

int io_uring_submit_and_wait(struct io_uring* ring, unsigned count) {
  if (Fails("ring_enter")) return -errno;
  EndSome(ring);
  const int result = real_io_uring_submit_and_wait(ring, count);
  TellLies(ring);
  return result;
}

int io_uring_submit_and_wait_timeout(struct io_uring* ring, struct io_uring_cqe** first,
                                     unsigned count, struct __kernel_timespec* timeout,
                                     sigset_t* mask) {
  if (Fails("ring_enter")) return -errno;
  EndSome(ring);
  const int result = real_io_uring_submit_and_wait_timeout(ring, first, count, timeout, mask);
  TellLies(ring);
  return result;
}
