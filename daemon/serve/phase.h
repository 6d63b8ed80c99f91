// What the workers are to do, told by the main thread: serve, pause for a successor, or leave.
//
// Thread safety: Set() and AwaitPaused() belong to the main thread, Pause() to the workers;
// current() may be called from any thread.
#ifndef EVERMAP_DAEMON_SERVE_PHASE_H_
#define EVERMAP_DAEMON_SERVE_PHASE_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "daemon/serve/mutex.h"

namespace evermap {

enum class Phase : uint8_t {
  kServing,
  kPaused,   // accept nothing, answer what has come, then touch nothing; also before they serve
  kLeaving,  // accept nothing, answer what has come, then end
  kGone,     // end: the registry and the connections are a successor's
};

class PhaseControl {
 public:
  Phase current() const { return phase_.load(std::memory_order_acquire); }

  // The caller wakes the workers afterwards: one that waits in its loop does not notice otherwise.
  void Set(Phase phase) {
    {
      const MutexLock lock(mutex_);
      phase_.store(phase, std::memory_order_release);
      if (phase != Phase::kPaused) paused_ = 0;
    }
    changed_.notify_all();
  }

  // Tells the main thread that the calling worker touches nothing any more, and returns when the
  // phase is another one.
  void Pause() {
    const MutexLock lock(mutex_);
    // A worker that comes too late for this pause is not counted: it would count for the next one.
    if (current() != Phase::kPaused) return;
    ++paused_;
    changed_.notify_all();
    while (current() == Phase::kPaused) changed_.wait(mutex_);
  }

  // Whether `workers` workers have paused within `timeout`.
  bool AwaitPaused(uint32_t workers, absl::Duration timeout) {
    const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(timeout);
    const MutexLock lock(mutex_);
    while (paused_ < workers) {
      if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) {
        return paused_ >= workers;
      }
    }
    return true;
  }

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;       // of phase_ or paused_
  std::atomic<Phase> phase_{Phase::kPaused};  // is changed under mutex_, read without
  uint32_t paused_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_PHASE_H_
