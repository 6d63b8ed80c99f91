#include "daemon/serve/lookout.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/host/wake_fd.h"

namespace evermap {

Lookout::~Lookout() {
  if (!thread_.has_value()) return;
  stops_.store(true, std::memory_order_release);
  Wake(stop_.get());
  thread_->Join();
}

absl::Status Lookout::Start(absl::Span<const int> listeners, Workers workers) {
  if (absl::Status status = MakeSet(listeners); !status.ok()) return status;
  workers_ = std::move(workers);
  listeners_ = listeners;
  absl::StatusOr<Thread> thread = Thread::Start("epmd-lookout", [this] { Look(); });
  if (!thread.ok()) return thread.status();
  thread_.emplace(*std::move(thread));
  return absl::OkStatus();
}

absl::Status Lookout::MakeSet(absl::Span<const int> listeners) {
  set_ = OwnedFd(epoll_create1(EPOLL_CLOEXEC));
  stop_ = MakeWakeFd();
  bool is_complete = set_.valid() && stop_.valid();
  // Not EPOLLEXCLUSIVE: the connection wakes a worker all the same.
  epoll_event event = {.events = EPOLLIN, .data = {}};
  for (const int fd : listeners) {
    is_complete = is_complete && epoll_ctl(set_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  }
  is_complete = is_complete && epoll_ctl(set_.get(), EPOLL_CTL_ADD, stop_.get(), &event) == 0;
  return is_complete ? absl::OkStatus()
                     : absl::UnavailableError(absl::ErrnoToStatus(errno, "epoll").message());
}

void Lookout::Look() {
  while (!stops_.load(std::memory_order_acquire)) {
    if (Waits(-1)) LookWhileSomeCome();
  }
}

void Lookout::LookWhileSomeCome() {
  uint64_t accepted = workers_.accepted();
  uint64_t waiting = CountWaiting();
  int64_t pause_ms = kLookMs;
  int alarmed_looks = 0;  // so many more looks are alarmed
  bool was_told = false;
  while (true) {
    absl::SleepFor(absl::Milliseconds(pause_ms));
    if (stops_.load(std::memory_order_acquire)) return;
    const uint64_t accepted_now = workers_.accepted();
    const uint64_t came = accepted_now - std::exchange(accepted, accepted_now);
    // They are accepted in the order in which they have come.
    const bool has_waited = came < std::exchange(waiting, CountWaiting());
    if (waiting == 0 && came == 0) return;
    alarmed_looks = has_waited ? kAlarmedLooks : std::max(alarmed_looks - 1, 0);
    pause_ms = was_told && came == 0 ? std::min(2 * pause_ms, kLookInVainMs) : kLookMs;
    was_told = has_waited || (alarmed_looks > 0 && waiting > 0);
    if (was_told) workers_.accept_anew();
  }
}

bool Lookout::Waits(int timeout_ms) const {
  epoll_event event;
  return epoll_wait(set_.get(), &event, 1, timeout_ms) > 0;
}

uint64_t Lookout::CountWaiting() const {
  if (!Waits(0)) return 0;
  uint64_t count = 0;
  for (const int fd : listeners_) {
    tcp_info info = {};
    socklen_t size = sizeof(info);
    // Of a listener this is the number of those that wait to be accepted.
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) count += info.tcpi_unacked;
  }
  return count;
}

}  // namespace evermap
