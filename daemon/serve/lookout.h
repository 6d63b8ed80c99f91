// The lookout: sees to it that a connection is accepted although the worker that the kernel has
// woken for it stands still.
//
// A new connection wakes one of the workers that wait for it, and no other hears of it. That worker
// may get nowhere: it was just sent to do something that takes long, a tracer or a quota of the CPU
// holds it, or its ring waits for connections while the worker itself is busy. The lookout is a
// thread that takes no connections. As long as some come it looks at the listeners every kLookMs,
// and when fewer were accepted since the last look than waited then, so that one has waited for all
// of that time, it has all workers look at the listeners, too. For some looks after that it is
// alarmed: who waits then is not made to wait for a second look. With more requests at a time than
// cores somebody waits at nearly every look, so to be alarmed always would cost more than the looks.
//
// While none comes the lookout sleeps, so that it costs nothing, and begins when the kernel tells it
// of the next one. At its busiest it takes 1,000 looks a second; a look is a few system calls, and no
// difference in the CPU of a lookup was seen with 8 requests at a time (epmd-bench compare, both
// loops, two workers on one core).
//
// What a worker has accepted already waits as long as that worker does. One worker alone has a lookout for
// the ring of an earlier mapper, which takes wakes until the kernel has taken it apart.
//
// Thread safety: Start() and the destructor belong to the main thread.
#ifndef EVERMAP_DAEMON_SERVE_LOOKOUT_H_
#define EVERMAP_DAEMON_SERVE_LOOKOUT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "daemon/host/thread.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// Between two looks. A connection has waited for at most twice as long when all workers are told.
inline constexpr int64_t kLookMs = 1;
// How many looks are alarmed after a connection has waited.
inline constexpr int kAlarmedLooks = 16;
// As kLookMs while telling them has been in vain: all stand still, or no descriptor is free.
inline constexpr int64_t kLookInVainMs = 8;

class Lookout {
 public:
  struct Workers {
    // Makes all of them look for connections that wait to be accepted. Does not wait.
    std::function<void()> accept_anew;
    // How many connections they have accepted since they were made.
    std::function<uint64_t()> accepted;
  };

  Lookout() = default;
  Lookout(const Lookout&) = delete;
  Lookout& operator=(const Lookout&) = delete;
  // Ends the thread.
  ~Lookout();

  // Begins to look. The listeners, and what `workers` refers to, outlive this.
  // kUnavailable: there is no thread or no descriptor for it; nothing is looked at then.
  absl::Status Start(absl::Span<const int> listeners, Workers workers);

 private:
  absl::Status MakeSet(absl::Span<const int> listeners);
  void Look();
  // Looks every kLookMs until no connection has come for as long.
  void LookWhileSomeCome();
  // Whether a connection waits at a listener, or does within `timeout_ms` (-1: without end).
  bool Waits(int timeout_ms) const;
  // How many connections wait.
  uint64_t CountWaiting() const;

  Workers workers_;
  absl::Span<const int> listeners_;
  OwnedFd set_;   // an epoll set of the listeners and stop_
  OwnedFd stop_;  // woken when the thread is to end
  std::atomic<bool> stops_{false};
  std::optional<Thread> thread_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_LOOKOUT_H_
