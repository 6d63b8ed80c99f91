// Threads, where the kernel may refuse them: a bound of processes (RLIMIT_NPROC, TasksMax=,
// pids.max) or a filter of system calls.
//
//   absl::StatusOr<Thread> thread = Thread::Start("epmd-worker", [&worker] { worker.Serve(); });
//   if (!thread.ok()) ... do without it ...
//   thread->Join();
//
// std::thread would end the process instead.
//
// Thread safety: a Thread belongs to one thread at a time.
#ifndef EVERMAP_DAEMON_HOST_THREAD_H_
#define EVERMAP_DAEMON_HOST_THREAD_H_

#include <pthread.h>

#include <cassert>
#include <functional>
#include <utility>

#include "absl/status/statusor.h"

namespace evermap {

class Thread {
 public:
  // Runs `body` in a new thread, which `ps -L` shows by `name` (at most 15 bytes). It takes no
  // signals: these belong to the thread that waits for them. kUnavailable: the kernel refuses it.
  static absl::StatusOr<Thread> Start(const char* name, std::function<void()> body);

  Thread(Thread&& other) noexcept
      : thread_(other.thread_), is_there_(std::exchange(other.is_there_, false)) {}
  Thread& operator=(Thread&&) = delete;
  // REQUIRES: Join() or Detach() was called.
  ~Thread() { assert(!is_there_); }

  // Waits until `body` has returned.
  void Join();
  // Lets it run until it returns, or the process ends.
  void Detach();

 private:
  explicit Thread(pthread_t thread) : thread_(thread), is_there_(true) {}

  pthread_t thread_;
  bool is_there_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_THREAD_H_
