#include "daemon/serve/notifier.h"

#include <poll.h>

#include <cassert>
#include <cerrno>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/host/log.h"
#include "daemon/host/wake_fd.h"
#include "registry/base/text.h"

namespace evermap {

Notifier::~Notifier() {
  if (!thread_.has_value()) return;
  stops_.store(true, std::memory_order_release);
  Tell();
  thread_->Join();
}

absl::Status Notifier::Start() {
  assert(!thread_.has_value());
  wake_fd_ = MakeWakeFd();
  if (!wake_fd_.valid()) {
    return absl::UnavailableError(absl::ErrnoToStatus(errno, "eventfd").message());
  }
  absl::StatusOr<Thread> thread = Thread::Start("epmd-notifier", [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_.emplace(*std::move(thread));
  return absl::OkStatus();
}

void Notifier::Tell() {
  // Whatever the caller has changed is visible to the thread that takes this back.
  if (state_.exchange(State::kTold, std::memory_order_acq_rel) == State::kAsleep) {
    Wake(wake_fd_.get());
  }
}

void Notifier::Run() {
  while (true) {
    // What was told until here is visible from here on.
    state_.exchange(State::kAwake, std::memory_order_acq_rel);
    const bool is_last = stops_.load(std::memory_order_acquire);
    TellReaders();
    if (is_last) return;
    absl::SleepFor(absl::Milliseconds(kTellMs));
    Sleep();
  }
}

void Notifier::TellReaders() {
  told_generation_.store(registry_.view().generation(), std::memory_order_release);
  const int error = registry_.TellReaders();
  if (error != 0 && !has_failed_) {
    Log(Severity::kWarning, "%s: readers cannot be told of changes, and have to poll: %s",
        registry_.path(), ErrorText(error));
  }
  has_failed_ = error != 0;
}

void Notifier::Sleep() {
  State awake = State::kAwake;
  if (!state_.compare_exchange_strong(awake, State::kAsleep, std::memory_order_acq_rel)) return;
  do {
    pollfd wake = {wake_fd_.get(), POLLIN, 0};
    poll(&wake, 1, -1);
    ClearWakes(wake_fd_.get());
  } while (state_.load(std::memory_order_acquire) == State::kAsleep);
}

}  // namespace evermap
