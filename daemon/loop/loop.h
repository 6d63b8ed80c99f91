// The event loop of one worker: the door behind which io_uring and epoll are two rooms.
//
//   auto loop = CreateLoop(LoopKind::kIoUring, {.connections_max = 1000});   // create_loop.h
//   (*loop)->Accept(0, listening_fd);
//   while (serving) (*loop)->Run(timeout_ms, handler);   // in the worker's thread
//
// The worker does not know which loop runs it. Connections are named by a number of the worker's
// choice, below connections_max.
//
// Thread safety: a loop may be made in any thread; from the first call of a member on, all but
// Wake() and ready_set() belong to the thread that made that call.
//
// Rules for the caller:
//   1  At most one operation (Receive or AwaitWritable) is pending per connection.
//   2  A connection's descriptor is closed, and its number used again, only while nothing is
//      pending on it and after Forget(). To end a connection early, shutdown(2) it: the pending
//      operation then completes.
#ifndef EVERMAP_DAEMON_LOOP_LOOP_H_
#define EVERMAP_DAEMON_LOOP_LOOP_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"

namespace evermap {

// Listening sockets a loop can accept from.
inline constexpr uint32_t kListenersMax = 64;
// Most bytes that one OnReceived() brings. They are more than the longest request has, so that
// bytes in excess of a request come together with it.
inline constexpr size_t kReceiveSizeMax = 4096;

// What a loop reports to its worker. All members are called within Run(), and nowhere else.
class LoopHandler {
 public:
  // A listener has a new connection. The handler owns `fd`.
  virtual void OnAccepted(int fd) = 0;
  // accept(2) failed with errno `error`. Nothing is accepted from this listener until Accept() is
  // called again. Errors of a single connection are not reported: the loop goes on to the next.
  virtual void OnAcceptFailed(uint32_t listener, int error) = 0;
  // The Receive() on `connection` is complete. No bytes means its end, or an error. The bytes are
  // valid during the call.
  virtual void OnReceived(uint32_t connection, absl::Span<const std::byte> bytes) = 0;
  // The AwaitWritable() is complete: a send makes progress, or fails.
  virtual void OnWritable(uint32_t connection) = 0;

 protected:
  ~LoopHandler() = default;
};

class Loop {
 public:
  struct Options {
    uint32_t connections_max = 0;
    // Whether other loops accept from the same listeners, so that this one must not take all.
    bool shares_listeners = true;
  };

  virtual ~Loop() = default;

  // Accepts connections from `fd` until OnAcceptFailed(). The descriptor stays the caller's. It may
  // be shared with other loops and processes; each connection goes to one of them.
  // REQUIRES: listener < kListenersMax.
  virtual void Accept(uint32_t listener, int fd) = 0;
  // Looks at the listeners that are accepted from as if Accept() had just been called. The kernel
  // wakes one of the processes that wait for a connection, and may have chosen one that is dying.
  virtual void AcceptAnew() = 0;
  // Stops accepting. Connections that were accepted earlier are still reported: all have been when
  // IsAccepting() is false. Accept() starts it again.
  virtual void StopAccepting() = 0;
  virtual bool IsAccepting() const = 0;
  // Reads once from connection `fd` when something arrives or it ends: OnReceived().
  virtual void Receive(uint32_t connection, int fd) = 0;
  // Waits until connection `fd` takes bytes again: OnWritable().
  virtual void AwaitWritable(uint32_t connection, int fd) = 0;
  // Forgets the descriptor, which the caller is about to close (rule 2).
  virtual void Forget(uint32_t connection, int fd) = 0;

  // Waits until something is complete, but at most `timeout_ms` (< 0: without end), and reports all
  // that is. Returns whether anything was.
  virtual bool Run(int timeout_ms, LoopHandler& handler) = 0;

  // Gives up all that is pending, so that sockets are free as soon as their descriptors are closed.
  // Nothing but Wake() may be called after it.
  virtual void Stop() = 0;

  // Makes a Run() that waits, or else the next one, return. From any thread.
  virtual void Wake() = 0;

  // The descriptor of the set that watches the connections (ready_set.h), which the loop owns. From
  // any thread.
  virtual int ready_set() const = 0;
};

// Takes what has arrived on a connection into `buffer`, without waiting. An empty span means the
// end of the connection, or an error. nullopt means that nothing has arrived, or that the kernel
// has no memory for it at this moment.
std::optional<absl::Span<const std::byte>> ReceiveNow(int fd, absl::Span<std::byte> buffer);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LOOP_LOOP_H_
