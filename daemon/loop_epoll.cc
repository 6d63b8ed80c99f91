// The loop where io_uring is not to be had.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/loop.h"
#include "daemon/loop_implementations.h"
#include "registry/segment.h"

namespace evermap {
namespace {

// Events taken from the kernel at once.
constexpr int kEventsMax = 256;
// How soon what epoll had no memory for is tried again.
constexpr int kRetryMs = 10;
// Connections accepted before others get their turn; the rest of the queue is reported again.
constexpr int kAcceptsPerEvent = 32;

enum class Source : uint32_t { kListener, kConnection, kWake };

constexpr uint64_t Token(Source source, uint32_t number) {
  return (uint64_t{static_cast<uint32_t>(source)} << 32) | number;
}

class EpollLoop final : public Loop {
 public:
  EpollLoop(OwnedFd epoll_fd, OwnedFd wake_fd, uint32_t connections_max)
      : epoll_fd_(std::move(epoll_fd)),
        wake_fd_(std::move(wake_fd)),
        registered_(connections_max, false),
        waiting_(connections_max, Waiting::kNothing) {
    listeners_.fill(-1);
    // What one turn brings; more is taken only where more wait at a time than ever before.
    receives_.reserve(kEventsMax);
    trying_.reserve(kEventsMax);
    fds_.reserve(kEventsMax);
  }

  void Accept(uint32_t listener, int fd) override {
    // Another worker may be faster: accept4() must not wait then.
    const int flags = fcntl(fd, F_GETFL);
    const bool is_ready = flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
    // Exclusive: one connection wakes one of the workers that wait for it.
    const bool is_watched = is_ready && (Control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE,
                                                 Token(Source::kListener, listener)) ||
                                         errno == EEXIST);
    if (is_watched) {
      listeners_[listener] = fd;
    } else {
      refused_listeners_.push_back({listener, errno});
    }
  }

  void AcceptAnew() override {
    for (uint32_t listener = 0; listener < kListenersMax; ++listener) {
      const int fd = listeners_[listener];
      if (fd < 0) continue;
      LeaveListener(listener);
      Accept(listener, fd);
    }
  }

  void StopAccepting() override {
    for (uint32_t listener = 0; listener < kListenersMax; ++listener) LeaveListener(listener);
    refused_listeners_.clear();
  }

  bool IsAccepting() const override { return false; }

  void Receive(uint32_t connection, int fd) override { receives_.push_back({connection, fd}); }

  void AwaitWritable(uint32_t connection, int fd) override {
    Await(connection, fd, Waiting::kWritable);
  }

  void Forget(uint32_t connection, int fd) override {
    waiting_[connection] = Waiting::kNothing;
    if (!registered_[connection]) return;
    // Closing would not be enough: others may hold the same socket.
    epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
    registered_[connection] = false;
  }

  void Run(int timeout_ms, LoopHandler& handler) override {
    // What the handler is told here may shorten the time that it has to wait.
    if (ReportRefused(handler)) timeout_ms = 0;
    RetryWaits();
    if (TryReceives(handler)) timeout_ms = 0;
    if (!failed_.empty() && (timeout_ms < 0 || timeout_ms > kRetryMs)) timeout_ms = kRetryMs;
    std::array<epoll_event, kEventsMax> events;
    const int count = epoll_wait(epoll_fd_.get(), events.data(), kEventsMax, timeout_ms);
    for (int i = 0; i < count; ++i) Dispatch(events[static_cast<size_t>(i)], handler);
  }

  void Stop() override {}

  void Wake() override {
    const uint64_t one = 1;
    // Fails only when the counter is full: then a wake-up is on its way.
    [[maybe_unused]] const ssize_t written = write(wake_fd_.get(), &one, sizeof(one));
  }

 private:
  enum class Waiting : uint8_t { kNothing, kReadable, kWritable };
  struct PendingReceive {
    uint32_t connection;
    int fd;
  };
  struct RefusedListener {
    uint32_t listener;
    int error;
  };

  bool Control(int operation, int fd, uint32_t events, uint64_t token) {
    epoll_event event = {};
    event.events = events;
    event.data.u64 = token;
    return epoll_ctl(epoll_fd_.get(), operation, fd, &event) == 0;
  }

  void LeaveListener(uint32_t listener) {
    if (listeners_[listener] < 0) return;
    // Fails only when the kernel has closed it.
    epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, listeners_[listener], nullptr);
    listeners_[listener] = -1;
  }

  void Await(uint32_t connection, int fd, Waiting waiting) {
    waiting_[connection] = waiting;
    const uint32_t direction = waiting == Waiting::kReadable ? EPOLLIN | EPOLLRDHUP : EPOLLOUT;
    const int operation = registered_[connection] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (Control(operation, fd, direction | EPOLLONESHOT, Token(Source::kConnection, connection))) {
      registered_[connection] = true;
    } else {
      // No memory, or max_user_watches reached. A node's registration must not end of that.
      failed_.push_back(connection);
    }
    fds_.resize(std::max<size_t>(fds_.size(), connection + size_t{1}), -1);
    fds_[connection] = fd;
  }

  bool ReportRefused(LoopHandler& handler) {
    if (refused_listeners_.empty()) return false;
    for (const RefusedListener& refused : std::exchange(refused_listeners_, {})) {
      handler.OnAcceptFailed(refused.listener, refused.error);
    }
    return true;
  }

  void RetryWaits() {
    if (failed_.empty()) return;
    for (const uint32_t connection : std::exchange(failed_, {})) {
      const Waiting waiting = waiting_[connection];
      if (waiting != Waiting::kNothing) Await(connection, fds_[connection], waiting);
    }
  }

  // A request has often arrived with its connection: receiving first saves the epoll_ctl(). True
  // when more are to be tried.
  bool TryReceives(LoopHandler& handler) {
    // Handlers may ask for more; those wait for the next turn.
    std::swap(receives_, trying_);
    for (const PendingReceive& pending : trying_)
      ReceiveNow(pending.connection, pending.fd, handler);
    trying_.clear();
    return !receives_.empty();
  }

  void ReceiveNow(uint32_t connection, int fd, LoopHandler& handler) {
    ssize_t received;
    do {
      received = recv(fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    if (received < 0 && (errno == EAGAIN || IsShortage(errno))) {
      Await(connection, fd, Waiting::kReadable);
      return;
    }
    const size_t size = received > 0 ? static_cast<size_t>(received) : 0;
    handler.OnReceived(connection, absl::MakeConstSpan(buffer_.data(), size));
  }

  void AcceptSome(uint32_t listener, LoopHandler& handler) {
    const int listening_fd = listeners_[listener];
    if (listening_fd < 0) return;
    for (int i = 0; i < kAcceptsPerEvent; ++i) {
      sockaddr_storage peer;
      socklen_t peer_size = sizeof(peer);
      const int fd =
          accept4(listening_fd, reinterpret_cast<sockaddr*>(&peer), &peer_size, SOCK_CLOEXEC);
      if (fd >= 0) {
        handler.OnAccepted(fd, peer);
      } else if (errno == EAGAIN) {
        return;
      } else if (!IsErrorOfOneConnection(errno)) {
        const int error = errno;
        LeaveListener(listener);
        handler.OnAcceptFailed(listener, error);
        return;
      }
    }
  }

  void Dispatch(const epoll_event& event, LoopHandler& handler) {
    const uint32_t number = static_cast<uint32_t>(event.data.u64);
    switch (static_cast<Source>(event.data.u64 >> 32)) {
      case Source::kListener:
        AcceptSome(number, handler);
        return;
      case Source::kConnection:
        switch (std::exchange(waiting_[number], Waiting::kNothing)) {
          case Waiting::kReadable:
            ReceiveNow(number, fds_[number], handler);
            return;
          case Waiting::kWritable:
            handler.OnWritable(number);
            return;
          case Waiting::kNothing:
            return;
        }
        return;
      case Source::kWake: {
        uint64_t count;
        [[maybe_unused]] const ssize_t got = read(wake_fd_.get(), &count, sizeof(count));
        return;
      }
    }
  }

  OwnedFd epoll_fd_;
  OwnedFd wake_fd_;
  std::array<int, kListenersMax> listeners_;  // -1: not accepted from
  std::vector<bool> registered_;              // by connection: known to epoll
  std::vector<Waiting> waiting_;              // by connection: what for
  std::vector<int> fds_;                      // by connection, of those that wait
  std::vector<PendingReceive> receives_;
  std::vector<PendingReceive> trying_;
  std::vector<uint32_t> failed_;  // by connection: wait for what epoll does not know
  std::vector<RefusedListener> refused_listeners_;
  std::array<std::byte, kReceiveSizeMax> buffer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> CreateEpollLoop(const Loop::Options& options) {
  OwnedFd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  OwnedFd wake_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_fd.valid() || !wake_fd.valid()) {
    return absl::UnavailableError(absl::StrCat("epoll cannot be set up: ", std::strerror(errno),
                                               "; raise the limit of open files (ulimit -n)"));
  }
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = Token(Source::kWake, 0);
  if (epoll_ctl(epoll_fd.get(), EPOLL_CTL_ADD, wake_fd.get(), &event) != 0) {
    return absl::UnavailableError(absl::StrCat("epoll cannot be set up: ", std::strerror(errno)));
  }
  return std::make_unique<EpollLoop>(std::move(epoll_fd), std::move(wake_fd),
                                     options.connections_max);
}

}  // namespace evermap
