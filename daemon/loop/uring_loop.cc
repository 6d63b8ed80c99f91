// The loop on io_uring. The ring accepts; a ReadySet watches the connections, and the ring watches
// the ReadySet.
//
// Accepting is multishot, in turns. A multishot accept keeps its place in the listening socket's
// wait queue, and the kernel wakes the first waiter in that queue, so without turns one ring would
// get every connection. After kAcceptsPerTurn connections a ring therefore cancels its accept and
// arms it anew, which puts it at the end of the queue. A single worker takes no turns.
//
// A ring takes its turn also while its worker is busy or stands still, and those whom the kernel
// wakes for it wait. So the lookout (serve/lookout.h) has the other loops accept anew. What else a
// ring can do costs more CPU or keeps clients waiting (bench/RESULTS.md, "Ways to accept"): one-shot
// accepts 1.3 times as much with two workers, the listener in the ready set 1.7 times; and with a
// queue of its own for each worker a third of the connections waits for one that stands still.
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "daemon/host/log.h"
#include "daemon/loop/accept_errors.h"
#include "daemon/loop/create_loop.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/ready_set.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// Most operations that are asked for in one Run(): for each listener an accept, a cancellation and
// an end of turn, and two of the ring's own.
constexpr unsigned kSubmissionEntries = 256;
static_assert(kSubmissionEntries >= 3 * kListenersMax + 2);
// Completions beyond these are kept by the kernel in a list of its own, so none is lost. All of the
// queue is resident, 16 bytes each, in each worker: 4,096 entries made 16 workers 0.6 MiB larger, and
// with as many a storm of registrations was as fast.
constexpr unsigned kCompletionEntries = 1024;
// Most portions in which completions may come after Stop() has cancelled everything.
constexpr int kStopTurnsMax = 1000;

// Connections that a ring accepts before those of other workers get their turn.
constexpr uint32_t kAcceptsPerTurn = 16;

enum class Operation : uint32_t {
  kAccept,
  kListenerReadable,
  kCancelAccept,  // cancels kAccept or kListenerReadable
  kEndTurn,
  kReady,
  kStop
};

// An operation that is asked of the kernel. It travels in user_data and comes back with the
// completion.
struct Asked {
  Operation operation;
  uint32_t listener = 0;
};
constexpr uint64_t Pack(const Asked& asked) {
  return (uint64_t{static_cast<uint32_t>(asked.operation)} << 32) | asked.listener;
}
constexpr Asked Unpack(uint64_t user_data) {
  return {static_cast<Operation>(user_data >> 32), static_cast<uint32_t>(user_data)};
}

// Says why io_uring_setup(2) failed with errno `error`, and where an operator can allow it.
std::string SetupProblem(int error) {
  switch (error) {
    case ENOSYS:
      return "this kernel has no io_uring";
    case EPERM:
    case EACCES:
      return "io_uring is forbidden here (kernel.io_uring_disabled, or a container's seccomp "
             "profile)";
    case ENOMEM:
      return "no memory for a ring (RLIMIT_MEMLOCK)";
    case EMFILE:
    case ENFILE:
      return "no file descriptor for a ring (ulimit -n)";
    case EINVAL:
      return "this kernel's io_uring lacks what is needed (Linux 5.19)";
    default:
      return absl::StrCat("a ring cannot be set up: ", ErrorText(error));
  }
}

class UringLoop final : public Loop {
 public:
  explicit UringLoop(const Options& options)
      : takes_turns_(options.shares_listeners), ready_(options.connections_max) {}

  ~UringLoop() override {
    if (ring_ready_) io_uring_queue_exit(&ring_);
  }

  absl::Status Init() {
    if (absl::Status status = ready_.Init(); !status.ok()) return status;
    if (const int error = InitRing(); error != 0) {
      return absl::UnavailableError(SetupProblem(error));
    }
    Ask({Operation::kReady});
    return absl::OkStatus();
  }

  void Accept(uint32_t listener, int fd) override {
    assert(listener < kListenersMax);
    is_stopping_accepts_ = false;
    listeners_[listener].fd = fd;
    // The listener must block: on one with O_NONBLOCK an accept of a ring does not wait for the
    // next connection, but fails.
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    ArmAccept(listener);
  }

  void AcceptAnew() override {
    for (uint32_t listener = 0; listener < kListenersMax; ++listener) {
      if (listeners_[listener].is_armed) Ask({Operation::kEndTurn, listener});
    }
  }

  void StopAccepting() override {
    is_stopping_accepts_ = true;
    for (uint32_t listener = 0; listener < kListenersMax; ++listener) {
      if (listeners_[listener].is_armed) Ask({Operation::kCancelAccept, listener});
    }
  }

  bool IsAccepting() const override {
    return std::any_of(listeners_.begin(), listeners_.end(),
                       [](const Listener& listener) { return listener.is_armed; });
  }

  void Receive(uint32_t connection, int fd) override { ready_.Receive(connection, fd); }
  void AwaitWritable(uint32_t connection, int fd) override { ready_.AwaitWritable(connection, fd); }
  void Forget(uint32_t connection, int fd) override { ready_.Forget(connection, fd); }

  bool Run(int timeout_ms, LoopHandler& handler) override {
    Enable();
    timeout_ms = ready_.WaitMaxMs(timeout_ms);
    io_uring_cqe* first = nullptr;
    if (timeout_ms < 0) {
      io_uring_submit_and_wait(&ring_, 1);
    } else if (timeout_ms == 0) {
      // To wait for no time at all would take a timer all the same, and a list is answered after such
      // a look: 24 instead of 11 us of CPU for NAMES, in a virtual machine.
      io_uring_submit_and_get_events(&ring_);
    } else {
      __kernel_timespec timeout = {};
      timeout.tv_sec = timeout_ms / 1000;
      timeout.tv_nsec = (timeout_ms % 1000) * 1'000'000LL;
      io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
    }
    // The errors of both calls (ETIME, EINTR, EBUSY, EAGAIN) say nothing that the queues do not
    // say.
    unsigned head;
    unsigned seen = 0;
    bool is_ready = ready_.WaitMaxMs(-1) >= 0;
    // Only the completions that are there now are taken: answering brings more, and the connections
    // in the ready set wait, too.
    const unsigned count = io_uring_cq_ready(&ring_);
    io_uring_for_each_cqe(&ring_, head, first) {
      if (seen == count) break;
      const Asked asked = Unpack(first->user_data);
      if (asked.operation == Operation::kReady) {
        is_ready = true;
        // The ring watches the set again from now on. If something in it is not reported this time,
        // the new operation completes immediately.
        Ask(asked);
      } else {
        OnListener(asked, *first, handler);
      }
      ++seen;
    }
    io_uring_cq_advance(&ring_, seen);
    // No listener is in the set: the ring accepts.
    if (is_ready) ready_.Report(0, handler, [](uint32_t) {});
    return seen > 0;
  }

  // Cancels everything that is pending. The kernel would do so after the process has ended, but
  // some time later, and until then the mapper's port would be taken.
  void Stop() override {
    Ask({Operation::kStop});
    bool stopped = !enabled_;
    for (int i = 0; i < kStopTurnsMax && !stopped; ++i) {
      io_uring_submit_and_wait(&ring_, 1);
      io_uring_cqe* cqe = nullptr;
      unsigned head;
      unsigned seen = 0;
      io_uring_for_each_cqe(&ring_, head, cqe) {
        const Asked asked = Unpack(cqe->user_data);
        if (asked.operation == Operation::kAccept && cqe->res >= 0) close(cqe->res);
        stopped = stopped || asked.operation == Operation::kStop;
        ++seen;
      }
      io_uring_cq_advance(&ring_, seen);
    }
  }

  void Wake() override { ready_.Wake(); }
  int ready_set() const override { return ready_.fd(); }

 private:
  struct Listener {
    int fd = -1;
    bool is_armed = false;  // kAccept or kListenerReadable is pending
    uint32_t accepted = 0;  // connections in this turn
  };

  // Sets the ring up; returns an errno.
  int InitRing() {
    // The best flags come first; an older kernel refuses flags that it does not know with EINVAL.
    // Linux 5.19, which knows the last ones, is the first with multishot accept.
    constexpr unsigned kCommon = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
    constexpr std::array<unsigned, 2> kFlags = {
        kCommon | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        kCommon | IORING_SETUP_COOP_TASKRUN,
    };
    int error = EINVAL;
    for (const unsigned flags : kFlags) {
      io_uring_params params = {};
      params.flags = flags;
      params.cq_entries = kCompletionEntries;
      error = -io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
      if (error == 0) {
        ring_ready_ = true;
        // Without EXT_ARG each timeout would need an operation of its own. Without NODROP a flood
        // of completions would be lost.
        constexpr unsigned kNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
        return (params.features & kNeeded) == kNeeded ? TryCalls() : EINVAL;
      }
      if (error != EINVAL) return error;
    }
    return error;
  }

  // Finds out whether io_uring_enter(2) is permitted as well, and io_uring_register(2), which
  // Enable() needs. Returns an errno.
  int TryCalls() {
    // The call asks for nothing. A kernel that permits it fails with EBADFD, since the ring is not
    // enabled yet.
    if (syscall(__NR_io_uring_enter, ring_.ring_fd, 0, 0, 0, nullptr, 0) < 0 && errno != EBADFD) {
      return errno;
    }
    constexpr unsigned kOperations = 1;
    alignas(io_uring_probe)
        std::array<char, sizeof(io_uring_probe) + kOperations * sizeof(io_uring_probe_op)>
            probe = {};
    return -io_uring_register_probe(&ring_, reinterpret_cast<io_uring_probe*>(probe.data()),
                                    kOperations);
  }

  // Enables the ring, which ties it to this thread. liburing 2.3 has a function for that, but its
  // shared library does not export it.
  void Enable() {
    if (enabled_) return;
    if (syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) !=
        0) {
      // A filter was installed after TryCalls(). The mapper that is started next will find that out
      // and use epoll, so this one ends.
      Log(Severity::kError, "the ring cannot be enabled: %s", ErrorText(errno));
      FlushLog();
      std::abort();
    }
    enabled_ = true;
  }

  void ArmAccept(uint32_t listener) {
    listeners_[listener].is_armed = true;
    Ask({Operation::kAccept, listener});
  }

  void Ask(const Asked& asked) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    // The queue has room for all of one Run(), unless the kernel had no memory to take the entries
    // of the last one.
    for (; sqe == nullptr; sqe = io_uring_get_sqe(&ring_)) io_uring_submit(&ring_);
    const int fd = listeners_[asked.listener].fd;
    switch (asked.operation) {
      case Operation::kAccept:
        io_uring_prep_multishot_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
        break;
      case Operation::kListenerReadable:
        io_uring_prep_poll_add(sqe, fd, POLLIN);
        break;
      case Operation::kCancelAccept:
        // Nothing else is pending on a listener than its accept.
        io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
        break;
      case Operation::kEndTurn:
        io_uring_prep_cancel64(sqe, Pack({Operation::kAccept, asked.listener}), 0);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        break;
      case Operation::kReady:
        io_uring_prep_poll_add(sqe, ready_.fd(), POLLIN);
        break;
      case Operation::kStop:
        io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
        break;
    }
    sqe->user_data = Pack(asked);
  }

  void OnListener(const Asked& asked, const io_uring_cqe& cqe, LoopHandler& handler) {
    Listener& listener = listeners_[asked.listener];
    switch (asked.operation) {
      case Operation::kAccept:
        OnAccept(asked.listener, cqe, handler);
        return;
      case Operation::kListenerReadable:
        listener.is_armed = false;
        if (!is_stopping_accepts_) ArmAccept(asked.listener);
        return;
      case Operation::kCancelAccept:
      case Operation::kEndTurn:
        // Only failures are reported: the accept was at work, or had just ended by itself. In both
        // cases the turn begins anew.
        listener.accepted = 0;
        return;
      case Operation::kReady:
      case Operation::kStop:
        return;
    }
  }

  void OnAccept(uint32_t number, const io_uring_cqe& cqe, LoopHandler& handler) {
    Listener& listener = listeners_[number];
    const bool goes_on = (cqe.flags & IORING_CQE_F_MORE) != 0;
    if (!goes_on) {
      listener.accepted = 0;
      listener.is_armed = false;
    }
    if (cqe.res >= 0) {
      if (is_stopping_accepts_) {
        // The connection was accepted before the cancellation took effect: it is still reported.
      } else if (!goes_on) {
        ArmAccept(number);
      } else if (takes_turns_ && ++listener.accepted == kAcceptsPerTurn) {
        Ask({Operation::kEndTurn, number});
      }
      handler.OnAccepted(cqe.res);
    } else if (is_stopping_accepts_) {
      // The accept was cancelled, as StopAccepting() asked for.
    } else if (cqe.res == -EAGAIN) {
      // The listener is shared with an epoll loop of another process, which has set O_NONBLOCK.
      listener.is_armed = true;
      Ask({Operation::kListenerReadable, number});
    } else if (cqe.res == -ECANCELED || IsErrorOfOneConnection(-cqe.res)) {
      // ECANCELED: the turn has ended, and the new accept goes to the end of the queue.
      ArmAccept(number);
    } else {
      handler.OnAcceptFailed(number, -cqe.res);
    }
  }

  const bool takes_turns_;
  ReadySet ready_;
  io_uring ring_ = {};
  bool ring_ready_ = false;
  bool enabled_ = false;
  bool is_stopping_accepts_ = false;
  std::array<Listener, kListenersMax> listeners_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> CreateUringLoop(const Loop::Options& options) {
  auto loop = std::make_unique<UringLoop>(options);
  if (absl::Status status = loop->Init(); !status.ok()) return status;
  return loop;
}

}  // namespace evermap
