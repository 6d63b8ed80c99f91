#include "daemon/host/timers.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

namespace evermap {

int TimeoutUntil(int64_t now_ms, std::initializer_list<int64_t> wake_times_ms) {
  int64_t timeout_ms = -1;
  for (const int64_t wake_ms : wake_times_ms) {
    if (wake_ms < 0) continue;
    const int64_t left_ms = std::max<int64_t>(wake_ms - now_ms, 0);
    timeout_ms = timeout_ms < 0 ? left_ms : std::min(timeout_ms, left_ms);
  }
  return static_cast<int>(timeout_ms);
}

Timers::~Timers() { assert(timers_.empty()); }

int Timers::TimeoutMs(int64_t now_ms) const {
  std::optional<int64_t> earliest_ms;
  for (const Timer* timer : timers_) {
    if (!timer->is_planned()) continue;
    if (!earliest_ms.has_value() || *timer->deadline_ms() < *earliest_ms) {
      earliest_ms = timer->deadline_ms();
    }
  }
  if (!earliest_ms.has_value()) return -1;
  return static_cast<int>(
      std::clamp<int64_t>(*earliest_ms - now_ms, 0, std::numeric_limits<int>::max()));
}

void Timers::RunDue(int64_t now_ms) {
  assert(!is_running_);
  is_running_ = true;
  for (Timer* timer : timers_) {
    if (!timer->is_planned() || *timer->deadline_ms() > now_ms) continue;
    timer->Cancel();
    timer->callback_();
  }
  is_running_ = false;
}

Timer::Timer(Timers& timers, std::function<void()> callback)
    : timers_(timers), callback_(std::move(callback)) {
  assert(callback_ != nullptr && !timers_.is_running_);
  timers_.timers_.push_back(this);
}

Timer::~Timer() {
  assert(!timers_.is_running_);
  std::erase(timers_.timers_, this);
}

}  // namespace evermap
