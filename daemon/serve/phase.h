// What the workers are to do, told by the main thread: serve, pause for a successor, or leave.
//
// Thread safety: Set() and AwaitAtRest() belong to the main thread, Pause() and SayAtRest() to the
// workers;
// current() may be called from any thread.
#ifndef EVERMAP_DAEMON_SERVE_PHASE_H_
#define EVERMAP_DAEMON_SERVE_PHASE_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <utility>

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
      at_rest_ = 0;
      if (phase == Phase::kPaused) ++pause_;
    }
    changed_.notify_all();
  }

  // Tells the main thread that the calling worker, which leaves, registers nothing any more.
  void SayAtRest() {
    const MutexLock lock(mutex_);
    ++at_rest_;
    changed_.notify_all();
  }

  // Tells the main thread that the calling worker touches nothing any more, and returns when the
  // phase is another one.
  void Pause() {
    const MutexLock lock(mutex_);
    // A worker that comes too late for this pause is not counted: it would count for the next one.
    // One that sleeps from one pause into the next counts in both.
    uint32_t counted_in = 0;
    while (current() == Phase::kPaused) {
      if (std::exchange(counted_in, pause_) != pause_) {
        ++at_rest_;
        changed_.notify_all();
      }
      changed_.wait(mutex_);
    }
  }

  // Whether `workers` workers are at rest in this phase within `timeout`.
  bool AwaitAtRest(uint32_t workers, absl::Duration timeout) {
    const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(timeout);
    const MutexLock lock(mutex_);
    while (at_rest_ < workers) {
      if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout) {
        return at_rest_ >= workers;
      }
    }
    return true;
  }

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;         // of phase_ or at_rest_
  std::atomic<Phase> phase_{Phase::kPaused};    // is changed under mutex_, read without
  uint32_t pause_ ABSL_GUARDED_BY(mutex_) = 1;  // the number of this pause, or the last one
  uint32_t at_rest_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_PHASE_H_
