// The ready set: an epoll set that watches the connections of one loop, of either kind.
//
// Connections are not watched by the ring, because a node's connection waits for days, and an
// operation of a ring belongs to its process. When an upgrade handed 10,000 nodes over, asking the
// kernel for 10,000 reads and taking as many back held up requests for 130 ms, and for 760 ms on a
// single core; the same in epoll took 18 and 25 ms (Linux 6.18, `epmd-bench restart`). A request
// seldom waits: it comes with its connection.
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
  // Most events that one Report() takes from the kernel.
  static constexpr int kEventsMax = 32;

  explicit ReadySet(uint32_t connections_max) : connections_max_(connections_max) {}
  // kUnavailable when there are no descriptors for it.
  absl::Status Init();

  // The descriptor that is readable when Report() has something to report. The set owns it.
  int fd() const { return epoll_fd_.get(); }

  // As the members of Loop.
  void Receive(uint32_t connection, int fd) { Await(connection, fd, Waiting::kReadable); }
  void AwaitWritable(uint32_t connection, int fd) { Await(connection, fd, Waiting::kWritable); }
  void Forget(uint32_t connection, int fd);
  // Makes a Report() that waits, or else the next one, return. From any thread.
  void Wake();

  // Makes Report() report when a listener has a connection, until it has none. Of several sets that
  // wait for one listener the kernel wakes one. Returns an errno; 0: done.
  int AddListener(uint32_t listener, int fd);
  void RemoveListener(int fd);

  // How long a caller may wait for fd() before it calls Report(): `timeout_ms`, or less while there
  // are connections that epoll refuses to watch. -1: without end.
  int WaitMaxMs(int timeout_ms) const;
  // Waits until something is ready, but at most `timeout_ms` (< 0: without end), and reports it.
  // Returns the number of events; after kEventsMax there may be more.
  int Report(int timeout_ms, LoopHandler& handler,
             absl::FunctionRef<void(uint32_t listener)> on_listener);

 private:
  // How often the connections that epoll refuses to watch are tried.
  static constexpr int kRetryMs = 10;

  enum class Source : uint32_t { kListener, kConnection, kWake };
  enum class Waiting : uint8_t { kNothing, kReadable, kWritable };

  static constexpr uint64_t Token(Source source, uint32_t number) {
    return (uint64_t{static_cast<uint32_t>(source)} << 32) | number;
  }

  // epoll_ctl(2); returns an errno.
  int Control(int operation, int fd, uint32_t events, uint64_t token) const;
  void Await(uint32_t connection, int fd, Waiting waiting);
  // Polls every kRetryMs the connections that epoll refuses to watch, for lack of memory or because
  // of the limit of its user (ENOMEM, ENOSPC; fs.epoll.max_user_watches). Such a connection must
  // neither be closed nor be forgotten.
  void TryRefused(LoopHandler& handler);
  void ReportConnection(uint32_t connection, LoopHandler& handler);

  // A connection that has waited.
  struct Watched {
    int fd = -1;  // while it waits
    Waiting waiting = Waiting::kNothing;
    bool is_registered = false;  // epoll knows it
  };

  const uint32_t connections_max_;
  OwnedFd epoll_fd_;
  OwnedFd wake_fd_;
  // By connection. It grows only when one waits whose number is higher than that of any before, so
  // memory goes by the connections that there are, and not by the limit of descriptors.
  std::vector<Watched> watched_;
  std::vector<uint32_t> refused_;  // connections that wait, and that epoll refuses to watch
  int64_t try_ms_ = 0;             // when those are tried next, MonotonicCoarseMs()
  std::array<std::byte, kReceiveSizeMax> buffer_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LOOP_READY_SET_H_
