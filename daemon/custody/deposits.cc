#include "daemon/custody/deposits.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <utility>

#include "absl/time/clock.h"
#include "daemon/host/steady_time.h"
#include "registry/base/clock.h"
#include "registry/base/text.h"
#include "registry/counters.h"

namespace evermap {
namespace {

using Outcome = DepositQueue::Outcome;

// How long a mapper that stores all pauses when there is no descriptor or no memory for a
// duplicate.
constexpr absl::Duration kShortagePause = absl::Milliseconds(10);

}  // namespace

Deposits::Deposits(Store& store, const Custody& custody, Registry& registry, size_t duplicates_max,
                   Timers& timers)
    : store_(store),
      custody_(custody),
      registry_(registry),
      duplicates_max_(duplicates_max),
      queue_(store.pace()),
      due_(timers, [this] { StoreDue(); }),
      flush_(timers, [this] { Flush(); }) {
  assert(duplicates_max_ > 0);
}

void Deposits::Add(RegistrationRef node) {
  if (!store_.holds()) return;
  queue_.Add(node, MonotonicCoarseMs());
  PlanDue();
}

void Deposits::AddAll() {
  for (uint32_t slot = 0; slot < custody_.capacity(); ++slot) {
    if (custody_.DescriptorOf(slot) < 0 || !registry_.ReadSlot(slot, found_)) continue;
    Add({slot, found_.id});
  }
}

void Deposits::StoreDue() {
  const int64_t now_ms = MonotonicCoarseMs();
  if (queue_.IsDue(now_ms)) {
    // All that is registered is in the store, but for what is in the queue.
    const size_t live = queue_.pace().is_bounded() ? registry_.live_count() : 0;
    queue_.Store(now_ms, live - std::min(live, queue_.size()),
                 [this](RegistrationRef node) { return Deposit(node); });
  }
  PlanDue();
  Flush();
}

void Deposits::PlanDue() {
  const std::optional<int64_t> due_ms = queue_.due_ms();
  if (due_ms.has_value()) {
    due_.Plan(*due_ms);
  } else {
    due_.Cancel();
  }
}

void Deposits::Flush() {
  const bool was_gone = std::exchange(store_is_gone_, !store_.Flush());
  if (store_is_gone_ && !was_gone) store_.WarnOfLoss();
  if (store_.waiting() > 0) {
    flush_.Plan(MonotonicCoarseMs() + (store_is_gone_ ? kGonePauseMs : kFullPauseMs));
  } else {
    flush_.Cancel();
  }
}

DepositQueue::Outcome Deposits::Deposit(RegistrationRef node) {
  if (!registry_.ReadSlot(node.slot, found_) || found_.id != node.id ||
      found_.state == RegistrationState::kRemembered) {
    return Outcome::kEnded;
  }
  if (store_.waiting() >= duplicates_max_) Flush();
  if (store_.waiting() >= duplicates_max_) return Outcome::kLater;
  OwnedFd connection = Duplicate(found_);
  if (!connection.valid()) {
    if (errno == EBADF) return Outcome::kEnded;
    const int error = errno;
    LogLimited(log_late_, Severity::kWarning, "connections are stored late: %s%s", ErrorText(error),
               error == EMFILE ? "; raise the limit of open files (ulimit -n, LimitNOFILE=)" : "");
    return Outcome::kLater;
  }
  Count(registry_.statistics(0).stored);
  store_.Put(std::move(connection));
  return Outcome::kStored;
}

OwnedFd Deposits::Duplicate(const Registration& node) {
  OwnedFd connection = custody_.Duplicate(node);
  if (connection.valid() || errno != EMFILE) return connection;
  // Each duplicate that waits for the store has a descriptor.
  Flush();
  return custody_.Duplicate(node);
}

size_t Deposits::StoreAll(absl::Time deadline) {
  while (store_.FlushPatiently(deadline) && queue_.size() > 0 && SteadyNow() < deadline) {
    const size_t size_before = queue_.size();
    queue_.StoreAll([this](RegistrationRef node) { return Deposit(node); });
    if (queue_.size() == size_before) absl::SleepFor(kShortagePause);
  }
  PlanDue();
  return queue_.size() + store_.waiting();
}

}  // namespace evermap
