#include "daemon/mapper/idle_exit.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "daemon/host/log.h"
#include "registry/base/clock.h"

namespace evermap {

IdleExit::IdleExit(const Registry& registry, const std::vector<int>& listeners, Timers& timers,
                   Pausing pausing, std::function<void()> end)
    : registry_(registry),
      listeners_(listeners),
      pausing_(std::move(pausing)),
      end_(std::move(end)),
      look_(timers, [this] { Look(); }),
      idle_since_ms_(MonotonicCoarseMs()) {}

void IdleExit::Set(absl::Duration idle) {
  // It is not known since when nobody is there while that does not matter.
  if (idle_ms_ == 0) idle_since_ms_ = MonotonicCoarseMs();
  idle_ms_ = absl::ToInt64Milliseconds(idle);
  if (idle_ms_ == 0) {
    look_.Cancel();
  } else {
    look_.PlanUnlessPlanned(MonotonicCoarseMs());
  }
}

void IdleExit::OnRegistered() { idle_since_ms_ = MonotonicCoarseMs(); }

void IdleExit::Look() {
  const int64_t now_ms = MonotonicCoarseMs();
  if (registry_.live_count() > 0) idle_since_ms_ = now_ms;
  if (now_ms - idle_since_ms_ >= idle_ms_) {
    if (End()) return;
    // Somebody has come just now.
    idle_since_ms_ = now_ms;
  }
  look_.Plan(std::min(now_ms + kLookMs, idle_since_ms_ + idle_ms_));
}

bool IdleExit::End() {
  if (!pausing_.is_alone()) return false;
  bool is_idle = pausing_.pause() && registry_.live_count() == 0;
  // Who waits to be accepted is served.
  for (const int listener : listeners_) {
    pollfd waiting = {listener, POLLIN, 0};
    is_idle = is_idle && poll(&waiting, 1, 0) == 0;
  }
  if (!is_idle) {
    pausing_.resume();
    return false;
  }
  Log(Severity::kNotice, "ends: no node has been registered for %d s", idle_ms_ / 1000);
  end_();
  return true;
}

}  // namespace evermap
