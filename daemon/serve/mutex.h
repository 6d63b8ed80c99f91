// A mutex whose use clang checks (-Wthread-safety): members that are marked ABSL_GUARDED_BY() can
// be touched only where a MutexLock is in scope.
//
//   Mutex mutex_;
//   std::vector<int> waiting_ ABSL_GUARDED_BY(mutex_);
//
// The standard library's mutex does the work, because ThreadSanitizer sees through it. Debian
// builds Abseil without ThreadSanitizer, so absl::Mutex would give false alarms.
#ifndef EVERMAP_DAEMON_SERVE_MUTEX_H_
#define EVERMAP_DAEMON_SERVE_MUTEX_H_

#include <mutex>

#include "absl/base/thread_annotations.h"

namespace evermap {

// lock() and unlock() have the standard's names so that std::condition_variable_any can wait with
// it; other code uses MutexLock.
class ABSL_LOCKABLE Mutex {
 public:
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

// Holds a mutex for as long as it is in scope.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.lock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  Mutex& mutex_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_MUTEX_H_
