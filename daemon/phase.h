// What the workers are to do, told by the main thread: serve, pause for a successor, or leave.
//
// Thread safety: Set() and AwaitPaused() belong to the main thread, Pause() to the workers.
#ifndef EVERMAP_DAEMON_PHASE_H_
#define EVERMAP_DAEMON_PHASE_H_

#include <atomic>
#include <cstdint>

#include "absl/synchronization/mutex.h"
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
    const absl::MutexLock lock(&mutex_);
    phase_.store(phase, std::memory_order_release);
    if (phase != Phase::kPaused) paused_ = 0;
  }

  // Says that the calling worker touches nothing, and returns when it may again.
  void Pause() {
    const absl::MutexLock lock(&mutex_);
    ++paused_;
    mutex_.Await(absl::Condition(
        +[](PhaseControl* control) { return control->current() != Phase::kPaused; }, this));
  }

  // Whether all of `workers` paused within `timeout`.
  bool AwaitPaused(uint32_t workers, absl::Duration timeout) {
    const absl::MutexLock lock(&mutex_);
    wanted_ = workers;
    return mutex_.AwaitWithTimeout(
        absl::Condition(
            +[](PhaseControl* control) { return control->paused_ >= control->wanted_; }, this),
        timeout);
  }

 private:
  absl::Mutex mutex_;
  std::atomic<Phase> phase_{Phase::kServing};
  uint32_t paused_ = 0;
  uint32_t wanted_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PHASE_H_
