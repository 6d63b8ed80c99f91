// What connections wait for, in an epoll set; each loop has one.
//
// The ring has none of it: a node's connection waits for days, and an operation of a ring waits
// with its process. When an upgrade hands 10,000 nodes over, to ask the kernel for 10,000 reads and
// to take as many back held up requests for 130 ms, and for 760 ms on a single core; the same in
// epoll for 18 and for 25 ms (Linux 6.18, `epmd-bench restart`). A request does not wait as a rule:
// it comes with its connection.
//
// Thread safety: all but Wake() belong to the thread of the loop.
#ifndef EVERMAP_DAEMON_LOOP_READY_SET_H_
#define EVERMAP_DAEMON_LOOP_READY_SET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "daemon/loop/loop.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class ReadySet {
 public:
  // Events that one Report() takes from the kernel.
  static constexpr int kEventsMax = 32;

  explicit ReadySet(uint32_t connections_max);
  // kUnavailable when there are no descriptors for it.
  absl::Status Init();

  // Readable when Report() has something to report. Stays this set's.
  int fd() const { return epoll_fd_.get(); }

  // As the members of Loop.
  void Receive(uint32_t connection, int fd) { Await(connection, fd, Waiting::kReadable); }
  void AwaitWritable(uint32_t connection, int fd) { Await(connection, fd, Waiting::kWritable); }
  void Forget(uint32_t connection, int fd);
  // Makes a Report() that waits, or else the next one, return. From any thread.
  void Wake();

  // Reports when a listener has a connection, until it has none; one of the sets that wait for it
  // is woken. Returns an errno.
  int AddListener(uint32_t listener, int fd);
  void RemoveListener(int fd);

  // How long Report() may be waited for: `timeout_ms`, or less where the kernel refused to watch a
  // connection.
  int WaitMaxMs(int timeout_ms) const;
  // Waits until something is ready, but at most `timeout_ms` (< 0: without end), and reports it.
  // Returns how much; kEventsMax: there may be more.
  int Report(int timeout_ms, LoopHandler& handler,
             absl::FunctionRef<void(uint32_t listener)> on_listener);

 private:
  // How often what the kernel refuses to watch is tried.
  static constexpr int kRetryMs = 10;

  enum class Source : uint32_t { kListener, kConnection, kWake };
  enum class Waiting : uint8_t { kNothing, kReadable, kWritable };

  static constexpr uint64_t Token(Source source, uint32_t number) {
    return (uint64_t{static_cast<uint32_t>(source)} << 32) | number;
  }

  // Returns an errno.
  int Control(int operation, int fd, uint32_t events, uint64_t token) const;
  void Await(uint32_t connection, int fd, Waiting waiting);
  // Tries what refused connections wait for, without waiting: for lack of memory, or of what one
  // user may watch (fs.epoll.max_user_watches), nobody's connection or registration is to end, and
  // nobody's to stay for ever.
  void TryRefused(LoopHandler& handler);
  void ReportConnection(uint32_t connection, LoopHandler& handler);

  OwnedFd epoll_fd_;
  OwnedFd wake_fd_;
  std::vector<bool> registered_;   // by connection: known to epoll
  std::vector<Waiting> waiting_;   // by connection: what for
  std::vector<int> fds_;           // by connection, of those that wait
  std::vector<uint32_t> refused_;  // connections that wait for what epoll does not know
  int64_t try_ms_ = 0;             // when those are tried, MonotonicCoarseMs()
  std::array<std::byte, kReceiveSizeMax> buffer_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LOOP_READY_SET_H_
