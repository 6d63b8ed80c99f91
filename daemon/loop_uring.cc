// The loop on io_uring.
//
// Accepting is multishot, in turns. A multishot accept keeps its place in the listening socket's
// wait queue, and the kernel wakes who waits there first: without turns one ring gets every
// connection. So after kAcceptsPerTurn of them a ring cancels its accept and arms it anew, which
// puts it at the end of the queue. Measured side by side on two cores (Linux 6.18, `epmd-bench
// lookup` with 8 lookups at a time and 100 nodes, medians of 7 alternating runs), server CPU per
// lookup, and share of the connections that the first of two workers got:
//
//                                   1 worker    2 workers    share
//   one-shot                         21.4 us      21.7 us     0.50
//   multishot                        17.7 us      18.0 us     0 or 1
//   multishot, turns of 16           19.0 us      18.7 us     0.50
//
// Turns of 64 are not better by more than the noise.
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

constexpr unsigned kSubmissionEntries = 256;
// Beyond this the kernel keeps completions in a list of its own.
constexpr unsigned kCompletionEntries = 4096;
// Buffers that the kernel receives into; each is given back before the next completion is looked
// at. A power of two.
constexpr unsigned kBuffers = 128;
constexpr int kBufferGroup = 0;
// Completions may come in that many portions while all is cancelled.
constexpr int kStopTurnsMax = 1000;

// Connections that a ring accepts before those of other workers get their turn.
constexpr uint32_t kAcceptsPerTurn = 16;

enum class Operation : uint8_t {
  kAccept,
  kListenerReadable,
  kCancelAccept,  // or kListenerReadable
  kReceive,
  kWritable,
  kWake,
  kStop,
  kEndTurn
};

// What is asked of the kernel; travels in user_data, from the lowest bits on: 4 bits operation, 28
// bits number of the connection or listener, 32 bits descriptor.
struct Asked {
  Operation operation;
  uint32_t number;
  int fd;
};
constexpr uint32_t kNumberMax = (1u << 28) - 1;
constexpr uint64_t Pack(const Asked& asked) {
  return static_cast<uint64_t>(asked.operation) | (uint64_t{asked.number} << 4) |
         (uint64_t{static_cast<uint32_t>(asked.fd)} << 32);
}
constexpr Asked Unpack(uint64_t user_data) {
  return {static_cast<Operation>(user_data & 0xf),
          static_cast<uint32_t>(user_data >> 4) & kNumberMax,
          static_cast<int>(static_cast<uint32_t>(user_data >> 32))};
}

// Why io_uring_setup(2) failed, in the operator's words.
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
  UringLoop() = default;

  ~UringLoop() override {
    if (ring_ready_) io_uring_queue_exit(&ring_);
    if (buffer_ring_ != nullptr) munmap(buffer_ring_, BufferRingSize());
  }

  absl::Status Init() {
    if (const int error = InitRing(); error != 0) {
      return absl::UnavailableError(SetupProblem(error));
    }
    if (const int error = InitBuffers(); error != 0) {
      return absl::UnavailableError(SetupProblem(error));
    }
    wake_fd_ = OwnedFd(eventfd(0, EFD_CLOEXEC));
    if (!wake_fd_.valid()) return absl::UnavailableError(SetupProblem(errno));
    ArmWake();
    return absl::OkStatus();
  }

  void Accept(uint32_t listener, int fd) override {
    is_stopping_accepts_ = false;
    listeners_[listener].fd = fd;
    // A ring takes O_NONBLOCK for "do not wait for the next connection".
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    ArmAccept(listener);
  }

  void AcceptAnew() override {
    for (uint32_t number = 0; number < kListenersMax; ++number) {
      if (listeners_[number].is_armed) Ask({Operation::kEndTurn, number, listeners_[number].fd});
    }
  }

  void StopAccepting() override {
    is_stopping_accepts_ = true;
    for (uint32_t number = 0; number < kListenersMax; ++number) {
      if (listeners_[number].is_armed)
        Ask({Operation::kCancelAccept, number, listeners_[number].fd});
    }
  }

  bool IsAccepting() const override {
    return std::any_of(listeners_.begin(), listeners_.end(),
                       [](const Listener& listener) { return listener.is_armed; });
  }

  void Receive(uint32_t connection, int fd) override { Ask({Operation::kReceive, connection, fd}); }

  void AwaitWritable(uint32_t connection, int fd) override {
    Ask({Operation::kWritable, connection, fd});
  }

  void Forget(uint32_t, int) override {}

  void Run(int timeout_ms, LoopHandler& handler) override {
    if (!enabled_) {
      // Ties the ring to this thread. Fails only on a ring that is enabled; liburing 2.3 has a
      // function for it, but its shared library does not export it.
      syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
      enabled_ = true;
    }
    SubmitDelayed();
    io_uring_cqe* first = nullptr;
    if (timeout_ms < 0) {
      io_uring_submit_and_wait(&ring_, 1);
    } else {
      __kernel_timespec timeout = {};
      timeout.tv_sec = timeout_ms / 1000;
      timeout.tv_nsec = (timeout_ms % 1000) * 1'000'000LL;
      io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
    }
    // An error of the two (ETIME, EINTR, EBUSY, EAGAIN) says nothing that the queues do not say.
    unsigned head;
    unsigned seen = 0;
    io_uring_for_each_cqe(&ring_, head, first) {
      Dispatch(*first, handler);
      ++seen;
    }
    io_uring_cq_advance(&ring_, seen);
  }

  // The kernel would do the same after the process has ended, but some time after: its port would
  // be taken until then.
  void Stop() override {
    Ask({Operation::kStop, 0, -1});
    bool stopped = !enabled_;
    for (int i = 0; i < kStopTurnsMax && !stopped; ++i) {
      // The cancellation may be behind others that did not fit into the queue.
      SubmitDelayed();
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

  void Wake() override {
    const uint64_t one = 1;
    // Fails only when the counter is full: then a wake-up is on its way.
    [[maybe_unused]] const ssize_t written = write(wake_fd_.get(), &one, sizeof(one));
  }

 private:
  struct Listener {
    int fd = -1;
    bool is_armed = false;  // kAccept or kListenerReadable is pending
    uint32_t accepted = 0;  // in this turn
  };

  static constexpr size_t BufferRingSize() { return kBuffers * sizeof(io_uring_buf); }

  // Returns an errno.
  int InitRing() {
    // Best first; older kernels refuse what they do not know with EINVAL.
    constexpr unsigned kCommon = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
    constexpr std::array<unsigned, 3> kFlags = {
        kCommon | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        kCommon | IORING_SETUP_COOP_TASKRUN,
        kCommon,
    };
    int error = EINVAL;
    for (const unsigned flags : kFlags) {
      io_uring_params params = {};
      params.flags = flags;
      params.cq_entries = kCompletionEntries;
      error = -io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
      if (error == 0) {
        ring_ready_ = true;
        // Without these a timeout would take an operation of its own, and a flood of completions
        // would be lost.
        constexpr unsigned kNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
        return (params.features & kNeeded) == kNeeded ? 0 : EINVAL;
      }
      if (error != EINVAL) return error;
    }
    return error;
  }

  int InitBuffers() {
    buffers_.resize(kBuffers * kReceiveSizeMax);
    void* memory =
        mmap(nullptr, BufferRingSize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return errno;
    buffer_ring_ = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_ring_init(buffer_ring_);
    io_uring_buf_reg registration = {};
    registration.ring_addr = reinterpret_cast<uint64_t>(memory);
    registration.ring_entries = kBuffers;
    registration.bgid = kBufferGroup;
    if (const int result = io_uring_register_buf_ring(&ring_, &registration, 0); result != 0) {
      return -result;
    }
    for (unsigned i = 0; i < kBuffers; ++i) ReturnBuffer(i);
    return 0;
  }

  std::byte* Buffer(unsigned number) { return buffers_.data() + number * kReceiveSizeMax; }

  void ReturnBuffer(unsigned number) {
    io_uring_buf_ring_add(buffer_ring_, Buffer(number), kReceiveSizeMax,
                          static_cast<uint16_t>(number), kBuffers - 1, 0);
    io_uring_buf_ring_advance(buffer_ring_, 1);
  }

  void ArmAccept(uint32_t listener) {
    listeners_[listener].is_armed = true;
    Ask({Operation::kAccept, listener, listeners_[listener].fd});
  }
  void ArmWake() { Ask({Operation::kWake, 0, wake_fd_.get()}); }

  // Puts an operation into the submission queue, or, while that is full, behind it.
  void Ask(const Asked& asked) {
    if (!delayed_.empty() || !Prepare(asked)) delayed_.push_back(asked);
  }

  void SubmitDelayed() {
    for (const Asked& asked : std::exchange(delayed_, {})) Ask(asked);
  }

  bool Prepare(const Asked& asked) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      // A ring that its thread has not entered yet cannot submit.
      if (!enabled_) return false;
      io_uring_submit(&ring_);
      sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) return false;
    }
    switch (asked.operation) {
      case Operation::kAccept: {
        io_uring_prep_multishot_accept(sqe, asked.fd, nullptr, nullptr, SOCK_CLOEXEC);
        break;
      }
      case Operation::kReceive:
        io_uring_prep_recv(sqe, asked.fd, nullptr, kReceiveSizeMax, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = kBufferGroup;
        break;
      case Operation::kListenerReadable:
        io_uring_prep_poll_add(sqe, asked.fd, POLLIN);
        break;
      case Operation::kWritable:
        io_uring_prep_poll_add(sqe, asked.fd, POLLOUT);
        break;
      case Operation::kCancelAccept:
        // All that is pending on a listener is its accept.
        io_uring_prep_cancel_fd(sqe, asked.fd, IORING_ASYNC_CANCEL_ALL);
        break;
      case Operation::kStop:
        io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
        break;
      case Operation::kEndTurn:
        io_uring_prep_cancel64(sqe, Pack({Operation::kAccept, asked.number, asked.fd}), 0);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        break;
      case Operation::kWake:
        io_uring_prep_read(sqe, asked.fd, &wake_count_, sizeof(wake_count_), 0);
        break;
    }
    sqe->user_data = Pack(asked);
    return true;
  }

  void Dispatch(const io_uring_cqe& cqe, LoopHandler& handler) {
    const Asked asked = Unpack(cqe.user_data);
    switch (asked.operation) {
      case Operation::kAccept:
        OnAccept(asked.number, cqe, handler);
        return;
      case Operation::kListenerReadable:
        listeners_[asked.number].is_armed = false;
        if (!is_stopping_accepts_) ArmAccept(asked.number);
        return;
      case Operation::kReceive:
        OnReceive(asked, cqe, handler);
        return;
      case Operation::kWritable:
        handler.OnWritable(asked.number);
        return;
      case Operation::kWake:
        ArmWake();
        return;
      case Operation::kCancelAccept:
      case Operation::kEndTurn:
        // Only failures are reported: the accept was at work, or had just ended by itself. The turn
        // begins anew.
        listeners_[asked.number].accepted = 0;
        return;
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
        // This one still counts.
      } else if (!goes_on) {
        ArmAccept(number);
      } else if (++listener.accepted == kAcceptsPerTurn) {
        Ask({Operation::kEndTurn, number, listener.fd});
      }
      // A multishot accept cannot bring it. Fails when the peer has reset the connection: the
      // address then stays that of no family, and the read fails likewise.
      sockaddr_storage peer = {};
      socklen_t size = sizeof(peer);
      getpeername(cqe.res, reinterpret_cast<sockaddr*>(&peer), &size);
      handler.OnAccepted(cqe.res, peer);
    } else if (is_stopping_accepts_) {
      // As asked for.
    } else if (cqe.res == -EAGAIN) {
      // The listener is shared with an epoll loop, which needs it non-blocking.
      listener.is_armed = true;
      Ask({Operation::kListenerReadable, number, listener.fd});
    } else if (cqe.res == -ECANCELED || IsErrorOfOneConnection(-cqe.res)) {
      // Cancelled: the turn has ended. Goes to the end of the queue.
      ArmAccept(number);
    } else {
      handler.OnAcceptFailed(number, -cqe.res);
    }
  }

  void OnReceive(const Asked& asked, const io_uring_cqe& cqe, LoopHandler& handler) {
    if (IsShortage(-cqe.res) || cqe.res == -EINTR) {
      // ENOBUFS: all buffers hold bytes that are further down in the completion queue.
      Ask(asked);
      return;
    }
    if ((cqe.flags & IORING_CQE_F_BUFFER) == 0) {
      handler.OnReceived(asked.number, {});
      return;
    }
    const unsigned buffer = cqe.flags >> IORING_CQE_BUFFER_SHIFT;
    const size_t size = cqe.res > 0 ? static_cast<size_t>(cqe.res) : 0;
    handler.OnReceived(asked.number, absl::MakeConstSpan(Buffer(buffer), size));
    ReturnBuffer(buffer);
  }

  io_uring ring_ = {};
  bool ring_ready_ = false;
  bool enabled_ = false;
  bool is_stopping_accepts_ = false;
  std::vector<std::byte> buffers_;
  io_uring_buf_ring* buffer_ring_ = nullptr;
  OwnedFd wake_fd_;
  uint64_t wake_count_ = 0;
  std::array<Listener, kListenersMax> listeners_;
  std::vector<Asked> delayed_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> CreateUringLoop(const Loop::Options& options) {
  if (options.connections_max > kNumberMax) {
    return absl::UnavailableError(
        absl::StrCat("more than ", kNumberMax, " connections; lower the limit of open files"));
  }
  auto loop = std::make_unique<UringLoop>();
  if (absl::Status status = loop->Init(); !status.ok()) return status;
  return loop;
}

}  // namespace evermap
