#include "daemon/mapper/leftovers.h"

#include <poll.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <utility>

#include "registry/base/clock.h"

namespace evermap {

Leftovers::Leftovers(const Registry& registry, const Custody& custody, Restoration& restoration,
                     Timers& timers, absl::Span<const int> listeners,
                     std::function<void()> accept_anew, std::vector<const Registering*> registering)
    : registry_(registry),
      custody_(custody),
      restoration_(restoration),
      listeners_(listeners),
      accept_anew_(std::move(accept_anew)),
      accept_check_(timers, [this] { CheckAccepting(); }),
      unwatched_check_(timers, [this] { CheckUnwatched(); }),
      registering_(std::move(registering)) {
  assert(accept_anew_ != nullptr);
}

void Leftovers::Watch(bool more_comes) {
  const int64_t now_ms = MonotonicCoarseMs();
  watch_until_ms_ = now_ms + kWatchMs;
  accept_pause_ms_ = kAcceptPauseMinMs;
  accept_check_.Plan(now_ms + accept_pause_ms_);
  if (more_comes) {
    unwatched_check_.Cancel();
  } else {
    unwatched_check_.Plan(now_ms + kUnwatchedPauseMs);
  }
}

void Leftovers::CheckAccepting() {
  std::vector<pollfd> polled;
  for (const int listener : listeners_) polled.push_back({listener, POLLIN, 0});
  if (poll(polled.data(), polled.size(), 0) > 0) accept_anew_();
  accept_pause_ms_ = std::min(2 * accept_pause_ms_, kAcceptPauseMaxMs);
  const int64_t now_ms = MonotonicCoarseMs();
  if (now_ms < watch_until_ms_) accept_check_.Plan(now_ms + accept_pause_ms_);
}

void Leftovers::CheckUnwatched() {
  if (unwatched_.empty()) LookForUnwatched();
  if (HaveAllPassed()) restoration_.OrphanUnwatched(std::exchange(unwatched_, {}));
  const int64_t now_ms = MonotonicCoarseMs();
  if (now_ms < watch_until_ms_ || !unwatched_.empty()) {
    unwatched_check_.Plan(now_ms + kUnwatchedPauseMs);
  }
}

void Leftovers::LookForUnwatched() {
  registry_.ForEach(Which::kRegistered, [&](const Registration& node) {
    if (node.state != RegistrationState::kLive || custody_.DescriptorOf(node.slot) >= 0) return;
    unwatched_.push_back({node.slot, node.id});
  });
  marks_.clear();
  for (const Registering* worker : registering_) marks_.push_back(worker->Read());
}

bool Leftovers::HaveAllPassed() const {
  for (size_t i = 0; i < registering_.size(); ++i) {
    if (!registering_[i]->HasPassed(marks_[i])) return false;
  }
  return true;
}

}  // namespace evermap
