// The loop on epoll, for kernels that have no io_uring or do not permit it.
#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/host/uncancelled.h"
#include "daemon/loop/accept_errors.h"
#include "daemon/loop/create_loop.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/ready_set.h"

namespace evermap {
namespace {

class EpollLoop final : public Loop {
 public:
  explicit EpollLoop(uint32_t connections_max) : ready_(connections_max) { listeners_.fill(-1); }

  absl::Status Init() { return ready_.Init(); }

  void Accept(uint32_t listener, int fd) override {
    assert(listener < kListenersMax);
    // The listener must not block: accept4() would wait when another worker was faster.
    const int flags = fcntl(fd, F_GETFL);
    int error = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ? errno : 0;
    if (error == 0) error = ready_.AddListener(listener, fd);
    if (error == 0) {
      listeners_[listener] = fd;
    } else {
      refused_listeners_.push_back({listener, error});
    }
  }

  // Without epoll: a listener that was taken out of the set might not get into it again, when
  // others have as many watches as their user may (ENOSPC).
  void AcceptAnew() override { accepts_anew_ = true; }

  void StopAccepting() override {
    for (uint32_t listener = 0; listener < kListenersMax; ++listener) LeaveListener(listener);
    refused_listeners_.clear();
    accepts_anew_ = false;
  }

  bool IsAccepting() const override { return false; }

  void Receive(uint32_t connection, int fd) override { ready_.Receive(connection, fd); }
  void AwaitWritable(uint32_t connection, int fd) override { ready_.AwaitWritable(connection, fd); }
  void Forget(uint32_t connection, int fd) override { ready_.Forget(connection, fd); }

  bool Run(int timeout_ms, LoopHandler& handler) override {
    // The handler may plan something for the near future when it is told this, so do not wait.
    if (ReportRefused(handler)) timeout_ms = 0;
    // One of each listener in a turn, so that other loops get some.
    if (accepts_anew_) {
      accepts_anew_ = false;
      timeout_ms = 0;
      for (uint32_t listener = 0; listener < kListenersMax; ++listener) {
        if (AcceptOne(listener, handler)) accepts_anew_ = true;
      }
    }
    const auto accept_one = [&](uint32_t listener) { AcceptOne(listener, handler); };
    const int reported = ready_.Report(timeout_ms, handler, accept_one);
    if (reported == ReadySet::kEventsMax) AcceptAmongMany(handler);
    return reported > 0;
  }

  void Stop() override {}
  void Wake() override { ready_.Wake(); }
  int ready_set() const override { return ready_.fd(); }

 private:
  struct RefusedListener {
    uint32_t listener;
    int error;
  };

  void LeaveListener(uint32_t listener) {
    if (listeners_[listener] < 0) return;
    ready_.RemoveListener(listeners_[listener]);
    listeners_[listener] = -1;
  }

  bool ReportRefused(LoopHandler& handler) {
    if (refused_listeners_.empty()) return false;
    for (const RefusedListener& refused : std::exchange(refused_listeners_, {})) {
      handler.OnAcceptFailed(refused.listener, refused.error);
    }
    return true;
  }

  // Accepts one connection, and returns whether there was one. Further ones are not looked for
  // here: epoll reports the listener again. A look in vain costs more than that, since the kernel
  // makes a socket before it looks: 18.2 instead of 14.8 us a lookup.
  bool AcceptOne(uint32_t listener, LoopHandler& handler) {
    if (listeners_[listener] < 0) return false;
    const int fd = uncancelled::Accept(listeners_[listener], SOCK_CLOEXEC);
    if (fd >= 0) {
      handler.OnAccepted(fd);
      return true;
    }
    const int error = errno;
    if (error == EAGAIN || IsErrorOfOneConnection(error)) return false;
    LeaveListener(listener);
    handler.OnAcceptFailed(listener, error);
    return false;
  }

  // Accepts from all listeners. Epoll reports a listener only after everything else that is ready,
  // so when thousands of nodes leave at the same time, new connections would wait for all of them.
  void AcceptAmongMany(LoopHandler& handler) {
    for (uint32_t listener = 0; listener < kListenersMax; ++listener) {
      for (int i = 0; i < ReadySet::kEventsMax && AcceptOne(listener, handler); ++i) continue;
    }
  }

  ReadySet ready_;
  std::array<int, kListenersMax> listeners_;  // -1: not accepted from
  std::vector<RefusedListener> refused_listeners_;
  bool accepts_anew_ = false;  // the next Run() looks at all listeners
};

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> CreateEpollLoop(const Loop::Options& options) {
  auto loop = std::make_unique<EpollLoop>(options.connections_max);
  if (absl::Status status = loop->Init(); !status.ok()) return status;
  return loop;
}

}  // namespace evermap
