#include "daemon/host/timers.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

namespace evermap {

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
