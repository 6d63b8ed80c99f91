#include "bench/load/load_thread.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "absl/types/span.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {
namespace {

constexpr int kEventsMax = 64;
constexpr int64_t kWaitMaxNs = 50 * kNsPerMs;
constexpr int64_t kScanNs = 100 * kNsPerMs;
// Pause of a slot of a closed loop after a refused connection. Without it the load would only spin
// against a mapper that refuses connections.
constexpr int64_t kRestNs = 1 * kNsPerMs;
constexpr size_t kReplySizeFirst = 512;
constexpr size_t kReplySizeMax = size_t{64} << 20;
// Connections that are opened before replies are looked at again, when the load begins.
constexpr size_t kStartsBetweenLooks = 16;

Outcome OutcomeOfError(int error) {
  switch (error) {
    case ECONNRESET:
    case EPIPE:
      return Outcome::kReset;
    case ECONNREFUSED:
      return Outcome::kConnectionRefused;
    default:
      return Outcome::kConnectFailed;
  }
}

}  // namespace

void LongestGap::NoteReply(int64_t now_ns) {
  const int64_t last_ns = last_ns_.exchange(now_ns, std::memory_order_relaxed);
  if (last_ns == 0 || now_ns - last_ns <= longest_ns_.load(std::memory_order_relaxed)) return;
  const absl::MutexLock lock(&mutex_);
  if (now_ns - last_ns <= gap_.length_ns()) return;
  gap_ = {.begin_ns = last_ns, .end_ns = now_ns};
  longest_ns_.store(gap_.length_ns(), std::memory_order_relaxed);
}

LongestGap::Gap LongestGap::gap() const {
  const absl::MutexLock lock(&mutex_);
  return gap_;
}

LoadThread::LoadThread(const Endpoint& endpoint, const Traffic& traffic, const Options& options,
                       LoadShared& shared)
    : endpoint_(endpoint),
      options_(options),
      shared_(shared),
      asker_(traffic, options.number, options.connections),
      sources_(endpoint, options.sources),
      slots_(options.connections),
      timeline_(options.interval) {
  if (options.schedule.has_value()) schedule_.emplace(*options.schedule);
  for (Slot& slot : slots_) slot.reply.resize(kReplySizeFirst);
}

bool LoadThread::MayStart(int64_t now_ns) const {
  if (shared_.stop.load(std::memory_order_relaxed)) return false;
  if (options_.is_storm) return started_ < slots_.size();
  if (!schedule_.has_value()) return now_ns < options_.end_ns;
  // Requests of an open loop that were due before its end are still made, for as long as one
  // request may take.
  return options_.begin_ns + schedule_->NextNs() < options_.end_ns &&
         now_ns < options_.end_ns + options_.timeout_ns;
}

absl::Status LoadThread::Run() {
  // The kernel's usual 50 us of slack on timers would make every start late.
  prctl(PR_SET_TIMERSLACK, 1);
  epoll_ = OwnedFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return absl::ErrnoToStatus(errno, "epoll_create1");
  scanned_ns_ = MonotonicNs();
  for (size_t number = 0; number < slots_.size(); ++number) {
    if (schedule_.has_value()) {
      free_.push_back(slots_.size() - 1 - number);
      continue;
    }
    StartNext(number, MonotonicNs());
    if (number % kStartsBetweenLooks == kStartsBetweenLooks - 1) {
      if (absl::Status status = WaitForEvents(0); !status.ok()) return status;
    }
  }
  while (true) {
    const int64_t now_ns = MonotonicNs();
    StartDue(now_ns);
    if (now_ns - scanned_ns_ >= kScanNs) EndOverdue(now_ns);
    if (under_way_ == 0 && !MayStart(now_ns)) break;
    if (absl::Status status = WaitForEvents(PauseNs(now_ns)); !status.ok()) return status;
  }
  CountNotStarted();
  return absl::OkStatus();
}

int64_t LoadThread::PauseNs(int64_t now_ns) const {
  int64_t until_ns = now_ns + kWaitMaxNs;
  if (schedule_.has_value() && !free_.empty() && MayStart(now_ns)) {
    until_ns = std::min(until_ns, options_.begin_ns + schedule_->NextNs());
  }
  if (!resting_.empty()) until_ns = std::min(until_ns, resting_.front().until_ns);
  return std::max<int64_t>(until_ns - now_ns, 0);
}

absl::Status LoadThread::WaitForEvents(int64_t pause_ns) {
  std::array<epoll_event, kEventsMax> events;
  int timeout_ms = static_cast<int>(pause_ns / kNsPerMs);
  if (pause_ns < kWaitMaxNs && pause_ns > 0) {
    // epoll_wait(2) takes milliseconds, which is too coarse for the schedule of an open loop.
    pollfd any{.fd = epoll_.get(), .events = POLLIN, .revents = 0};
    const timespec pause{.tv_sec = 0, .tv_nsec = pause_ns};
    ppoll(&any, 1, &pause, nullptr);
    timeout_ms = 0;
  }
  const int ready = epoll_wait(epoll_.get(), events.data(), kEventsMax, timeout_ms);
  if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "epoll_wait");
  for (int i = 0; i < ready; ++i) {
    const size_t number = events[static_cast<size_t>(i)].data.u64;
    // A child process that is just being started may hold a copy of a descriptor that was closed
    // here. epoll then still reports the connection.
    if (!slots_[number].connection.valid()) continue;
    const std::optional<Outcome> outcome = Continue(slots_[number], number);
    if (!outcome.has_value()) continue;
    const int64_t now_ns = MonotonicNs();
    End(number, *outcome, now_ns);
    if (GoesOn() && *outcome != Outcome::kConnectionRefused) StartNext(number, now_ns);
  }
  return absl::OkStatus();
}

void LoadThread::StartDue(int64_t now_ns) {
  while (schedule_.has_value() && !free_.empty() && MayStart(now_ns) &&
         options_.begin_ns + schedule_->NextNs() <= now_ns) {
    const size_t number = free_.back();
    free_.pop_back();
    StartNext(number, now_ns);
    now_ns = MonotonicNs();
  }
  while (!resting_.empty() && resting_.front().until_ns <= now_ns) {
    const size_t number = resting_.front().slot;
    resting_.erase(resting_.begin());
    StartNext(number, now_ns);
  }
}

void LoadThread::StartNext(size_t number, int64_t now_ns) {
  Slot& slot = slots_[number];
  while (MayStart(now_ns)) {
    slot.started_ns = now_ns;
    slot.intended_ns = now_ns;
    if (schedule_.has_value()) {
      slot.intended_ns = options_.begin_ns + schedule_->NextNs();
      if (slot.intended_ns >= options_.measure_ns) {
        lateness_.Add(static_cast<uint64_t>(std::max<int64_t>(now_ns - slot.intended_ns, 0)));
      }
      schedule_->Advance();
    }
    slot.sent = 0;
    slot.received = 0;
    ++under_way_;
    ++started_;
    asker_.Choose(number);
    const std::optional<Outcome> outcome = Start(slot, number);
    if (!outcome.has_value()) return;
    now_ns = MonotonicNs();
    End(number, *outcome, now_ns);
    if (!GoesOn() || *outcome == Outcome::kConnectionRefused) return;
  }
}

std::optional<Outcome> LoadThread::Start(Slot& slot, size_t number) {
  slot.connection =
      OwnedFd(socket(endpoint_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!slot.connection.valid()) return Outcome::kConnectFailed;
  const int error = sources_.StartConnecting(slot.connection.get());
  if (error != 0) return OutcomeOfError(error);
  // Over loopback the connection is nearly always there by now, which saves waiting for it.
  const std::optional<Outcome> outcome = Send(slot, number);
  if (outcome.has_value()) return outcome;
  const uint32_t events = slot.waits_for_send ? EPOLLIN | EPOLLOUT : EPOLLIN;
  return Watch(slot, number, events, EPOLL_CTL_ADD) ? std::nullopt
                                                    : std::optional(Outcome::kConnectFailed);
}

std::optional<Outcome> LoadThread::Send(Slot& slot, size_t number) {
  const absl::Span<const std::byte> rest = asker_.frame(number).subspan(slot.sent);
  const ssize_t sent =
      send(slot.connection.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  slot.waits_for_send = sent < static_cast<ssize_t>(rest.size());
  if (sent >= 0) {
    slot.sent += static_cast<size_t>(sent);
    return std::nullopt;
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return std::nullopt;
  if (errno == EPIPE || errno == ECONNRESET) {
    // The mapper may have replied before it closed the connection.
    slot.waits_for_send = false;
    return std::nullopt;
  }
  return OutcomeOfError(errno);
}

bool LoadThread::Watch(const Slot& slot, size_t number, uint32_t events, int operation) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = number;
  return epoll_ctl(epoll_.get(), operation, slot.connection.get(), &event) == 0;
}

std::optional<Outcome> LoadThread::Continue(Slot& slot, size_t number) {
  if (slot.waits_for_send) {
    const std::optional<Outcome> outcome = Send(slot, number);
    if (outcome.has_value()) return outcome;
    if (!slot.waits_for_send && !Watch(slot, number, EPOLLIN, EPOLL_CTL_MOD)) {
      return Outcome::kConnectFailed;
    }
  }
  return Receive(slot, number);
}

std::optional<Outcome> LoadThread::Receive(Slot& slot, size_t number) {
  while (true) {
    if (slot.received == slot.reply.size()) {
      if (slot.received >= kReplySizeMax) return Outcome::kMalformed;
      slot.reply.resize(slot.reply.size() * 2);
    }
    const absl::Span<std::byte> space = absl::MakeSpan(slot.reply).subspan(slot.received);
    const ssize_t received = recv(slot.connection.get(), space.data(), space.size(), 0);
    if (received < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
      return OutcomeOfError(errno);
    }
    slot.received += static_cast<size_t>(received);
    const std::optional<Outcome> outcome = asker_.Judge(
        number, absl::MakeConstSpan(slot.reply).first(slot.received), /*ended=*/received == 0);
    if (outcome.has_value()) return outcome;
  }
}

void LoadThread::End(size_t number, Outcome outcome, int64_t now_ns) {
  Slot& slot = slots_[number];
  const bool is_correct = outcome == Outcome::kCorrect;
  if (is_correct && options_.is_storm && asker_.kind(number) == RequestKind::kRegister) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, slot.connection.get(), nullptr);
    held_.push_back(std::move(slot.connection));
  }
  slot.connection = OwnedFd();
  --under_way_;
  if (schedule_.has_value()) {
    free_.push_back(number);
  } else if (GoesOn() && outcome == Outcome::kConnectionRefused) {
    resting_.push_back({.slot = number, .until_ns = now_ns + kRestNs});
  }

  const auto latency_ns = static_cast<uint64_t>(std::max<int64_t>(now_ns - slot.intended_ns, 0));
  const bool is_measured = slot.intended_ns >= options_.measure_ns;
  timeline_.Add(static_cast<uint64_t>(now_ns - options_.begin_ns), is_correct, latency_ns);
  if (is_measured || !is_correct) {
    outcomes_.Add(outcome);
    ++kinds_[static_cast<size_t>(asker_.kind(number))];
  }
  if (!is_correct) {
    if (shared_.wrong.fetch_add(1) + 1 >= options_.wrong_max) shared_.stop = true;
    return;
  }
  shared_.correct.fetch_add(1, std::memory_order_relaxed);
  if (!is_measured) return;
  latencies_.Add(latency_ns);
  shared_.gap.NoteReply(now_ns);
  last_end_ns_ = now_ns;
}

void LoadThread::EndOverdue(int64_t now_ns) {
  scanned_ns_ = now_ns;
  for (size_t number = 0; number < slots_.size(); ++number) {
    const Slot& slot = slots_[number];
    if (!slot.connection.valid() || now_ns - slot.started_ns < options_.timeout_ns) continue;
    End(number, Outcome::kTimedOut, now_ns);
    if (GoesOn()) StartNext(number, now_ns);
  }
}

void LoadThread::CountNotStarted() {
  if (shared_.stop) return;
  uint64_t count = 0;
  while (schedule_.has_value() && options_.begin_ns + schedule_->NextNs() < options_.end_ns) {
    schedule_->Advance();
    ++count;
  }
  outcomes_.Add(Outcome::kNotStarted, count);
  shared_.wrong.fetch_add(count);
}

}  // namespace evermap::bench
