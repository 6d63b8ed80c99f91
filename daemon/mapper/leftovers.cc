#include "daemon/mapper/leftovers.h"

#include <poll.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "registry/base/clock.h"

namespace evermap {

Leftovers::Leftovers(const Registry& registry, const Custody& custody, Restoration& restoration,
                     Timers& timers, absl::Span<const int> listeners,
                     std::function<void()> accept_anew)
    : registry_(registry),
      custody_(custody),
      restoration_(restoration),
      listeners_(listeners),
      accept_anew_(std::move(accept_anew)),
      accept_check_(timers, [this] { CheckAccepting(); }),
      unwatched_check_(timers, [this] { CheckUnwatched(); }) {
  assert(accept_anew_ != nullptr);
}

void Leftovers::Watch(bool predecessor_is_there) {
  const int64_t now_ms = MonotonicCoarseMs();
  watch_until_ms_ = now_ms + kWatchMs;
  accept_pause_ms_ = kAcceptPauseMinMs;
  accept_check_.Plan(now_ms + accept_pause_ms_);
  if (predecessor_is_there) {
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
  std::vector<RegistrationRef> unwatched;
  registry_.ForEach(Which::kRegistered, [&](const Registration& node) {
    if (node.state != RegistrationState::kLive || custody_.DescriptorOf(node.slot) >= 0) return;
    unwatched.push_back({node.slot, node.id});
  });
  absl::flat_hash_set<uint64_t> seen_before;
  for (const RegistrationRef node : unwatched_) seen_before.insert(node.id);
  std::vector<RegistrationRef> seen_again;
  for (const RegistrationRef node : unwatched) {
    if (seen_before.contains(node.id)) seen_again.push_back(node);
  }
  restoration_.OrphanUnwatched(seen_again);
  unwatched_ = std::move(unwatched);
  const int64_t now_ms = MonotonicCoarseMs();
  if (now_ms < watch_until_ms_) unwatched_check_.Plan(now_ms + kUnwatchedPauseMs);
}

}  // namespace evermap
