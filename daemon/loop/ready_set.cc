#include "daemon/loop/ready_set.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/host/log.h"
#include "daemon/host/uncancelled.h"
#include "daemon/host/wake_fd.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {

absl::Status ReadySet::Init() {
  epoll_fd_ = OwnedFd(epoll_create1(EPOLL_CLOEXEC));
  int error = epoll_fd_.valid() ? 0 : errno;
  if (error == 0) {
    wake_fd_ = MakeWakeFd();
    error = wake_fd_.valid()
                ? Control(EPOLL_CTL_ADD, wake_fd_.get(), EPOLLIN, Token(Source::kWake, 0))
                : errno;
  }
  if (error == 0) return absl::OkStatus();
  const bool is_full = error == EMFILE || error == ENFILE;
  return absl::UnavailableError(
      absl::StrCat("epoll cannot be set up: ", ErrorText(error),
                   is_full ? "; raise the limit of open files (ulimit -n)" : ""));
}

void ReadySet::Forget(uint32_t connection, int fd) {
  if (connection >= watched_.size()) return;
  Watched& watched = watched_[connection];
  // Rule 2 of loop.h.
  assert(watched.waiting == Waiting::kNothing);
  if (!watched.is_registered) return;
  // close(2) would not take the socket out of the set, since others may hold it as well.
  epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watched.is_registered = false;
}

void ReadySet::Wake() { evermap::Wake(wake_fd_.get()); }

int ReadySet::AddListener(uint32_t listener, int fd) {
  // EPOLLEXCLUSIVE: a connection wakes one of the loops that wait for it, and not all.
  const int error =
      Control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, Token(Source::kListener, listener));
  return error == EEXIST ? 0 : error;
}

void ReadySet::RemoveListener(int fd) {
  // epoll_ctl(2) fails only when the listener was closed, and so is out of the set already.
  epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

int ReadySet::WaitMaxMs(int timeout_ms) const {
  return !refused_.empty() && (timeout_ms < 0 || timeout_ms > kRetryMs) ? kRetryMs : timeout_ms;
}

int ReadySet::Report(int timeout_ms, LoopHandler& handler,
                     absl::FunctionRef<void(uint32_t listener)> on_listener) {
  TryRefused(handler);
  std::array<epoll_event, kEventsMax> events;
  const int count =
      uncancelled::EpollWait(epoll_fd_.get(), events.data(), kEventsMax, WaitMaxMs(timeout_ms));
  for (int i = 0; i < count; ++i) {
    const uint64_t token = events[static_cast<size_t>(i)].data.u64;
    const uint32_t number = static_cast<uint32_t>(token);
    switch (static_cast<Source>(token >> 32)) {
      case Source::kListener:
        on_listener(number);
        break;
      case Source::kConnection:
        ReportConnection(number, handler);
        break;
      case Source::kWake:
        ClearWakes(wake_fd_.get());
        break;
    }
  }
  return std::max(count, 0);
}

int ReadySet::Control(int operation, int fd, uint32_t events, uint64_t token) const {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = token;
  return epoll_ctl(epoll_fd_.get(), operation, fd, &event) == 0 ? 0 : errno;
}

void ReadySet::Await(uint32_t connection, int fd, Waiting waiting) {
  assert(connection < connections_max_);
  if (connection >= watched_.size()) watched_.resize(connection + size_t{1});
  Watched& watched = watched_[connection];
  // Rule 1 of loop.h.
  assert(watched.waiting == Waiting::kNothing);
  watched.waiting = waiting;
  watched.fd = fd;
  const uint32_t direction = waiting == Waiting::kReadable ? EPOLLIN | EPOLLRDHUP : EPOLLOUT;
  const int operation = watched.is_registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (Control(operation, fd, direction | EPOLLONESHOT, Token(Source::kConnection, connection)) ==
      0) {
    watched.is_registered = true;
  } else {
    refused_.push_back(connection);
  }
}

void ReadySet::TryRefused(LoopHandler& handler) {
  if (refused_.empty()) return;
  const int64_t now_ms = MonotonicCoarseMs();
  if (now_ms < try_ms_) return;
  try_ms_ = now_ms + kRetryMs;
  // A connection that has nothing to report enters refused_ again, through Await().
  for (const uint32_t connection : std::exchange(refused_, {})) {
    ReportConnection(connection, handler);
  }
}

void ReadySet::ReportConnection(uint32_t connection, LoopHandler& handler) {
  const int fd = watched_[connection].fd;
  switch (std::exchange(watched_[connection].waiting, Waiting::kNothing)) {
    case Waiting::kReadable: {
      const auto bytes = ReceiveNow(fd, absl::MakeSpan(buffer_));
      if (bytes.has_value()) {
        handler.OnReceived(connection, *bytes);
      } else {
        Await(connection, fd, Waiting::kReadable);
      }
      return;
    }
    case Waiting::kWritable:
      handler.OnWritable(connection);
      return;
    case Waiting::kNothing:
      return;
  }
}

}  // namespace evermap
