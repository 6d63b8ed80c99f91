// What the workers are to do, told by the main thread: serve, pause for a successor, or leave.
//
// Thread safety: Set() and AwaitPaused() belong to the main thread, Pause() to the workers.
#ifndef EVERMAP_DAEMON_SERVE_PHASE_H_
#define EVERMAP_DAEMON_SERVE_PHASE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "absl/time/time.h"

namespace evermap {

enum class Phase : uint8_t {
  kServing,
  kPaused,   // accept nothing, answer what has come, then touch nothing
  kLeaving,  // accept nothing, answer what has come, then end
  kGone,     // end: the registry and the connections are a successor's
};

class PhaseControl {
 public:
  Phase current() const { return phase_.load(std::memory_order_acquire); }

  // Workers that wait in their loops are to be woken after it.
  void Set(Phase phase) {
    {
      const std::lock_guard lock(mutex_);
      phase_.store(phase, std::memory_order_release);
      if (phase != Phase::kPaused) paused_ = 0;
    }
    changed_.notify_all();
  }

  // Says that the calling worker touches nothing, and returns when it may again.
  void Pause() {
    std::unique_lock lock(mutex_);
    // Too late for that pause: not to be counted for the next.
    if (current() != Phase::kPaused) return;
    ++paused_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return current() != Phase::kPaused; });
  }

  // Whether all of `workers` paused within `timeout`.
  bool AwaitPaused(uint32_t workers, absl::Duration timeout) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout),
                             [&] { return paused_ >= workers; });
  }

 private:
  // The standard library's, which ThreadSanitizer sees through; Debian's Abseil is built without
  // it.
  std::mutex mutex_;
  std::condition_variable changed_;  // of phase_ or paused_
  std::atomic<Phase> phase_{Phase::kServing};
  uint32_t paused_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_PHASE_H_
