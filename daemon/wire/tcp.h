// A blocking conversation over TCP, with one deadline for all of it, as programs have it with
// mappers (client.h) and with nodes.
//
//   const Waiter waiter("mapper on 127.0.0.1 port 4369", absl::Seconds(5));
//   absl::StatusOr<TcpConnection> connection = Connect("127.0.0.1", 4369, waiter);
//   std::string reply;
//   absl::Status status = SendAll(connection->fd(), request, waiter);
//   if (status.ok()) status = ReceiveUpTo(connection->fd(), 100, waiter, reply);
//
// Errors. Each message begins with the name of the other side, and says a way out:
//   kUnavailable        nobody listens there, the host cannot be reached, or the connection was
//                       reset
//   kDeadlineExceeded   not done in time
//   kInvalidArgument    the host has no address
//   kResourceExhausted  out of file descriptors
// ErrnoOf() tells the errors of kUnavailable apart.
//
// Thread safety: a Waiter is immutable; a connection belongs to one thread.
#ifndef EVERMAP_DAEMON_WIRE_TCP_H_
#define EVERMAP_DAEMON_WIRE_TCP_H_

#include <netdb.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace evermap {

// A connected, non-blocking socket, which this object closes.
class TcpConnection {
 public:
  explicit TcpConnection(int fd) : fd_(fd) {}
  TcpConnection(TcpConnection&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  TcpConnection& operator=(TcpConnection&& other) noexcept;
  ~TcpConnection();

  int fd() const { return fd_; }

 private:
  int fd_;
};

// The deadline of a conversation, and the name of the other side for messages.
class Waiter {
 public:
  // `who` is the other side, for messages: "mapper on 127.0.0.1 port 4369". The deadline is
  // `timeout` from now on.
  Waiter(std::string who, absl::Duration timeout);

  const std::string& who() const { return who_; }
  // Waits until `fd` is ready for `events` (of poll(2)) or has failed. `what` says in the message
  // what could not be done: "cannot connect".
  absl::Status Wait(int fd, short events, std::string_view what) const;

 private:
  std::string who_;
  absl::Duration timeout_;
  absl::Time deadline_;
};

// The addresses of a host: at least one.
using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;
// Finds the addresses of `host`, which is an IPv4 or IPv6 address, or a name. The resolver has a
// timeout of its own.
absl::StatusOr<Addresses> Resolve(const std::string& host, uint16_t port);

absl::StatusOr<TcpConnection> ConnectTo(const addrinfo& address, const Waiter& waiter);
// Connects to the first address of `host` that answers; the error is that of the last one.
absl::StatusOr<TcpConnection> Connect(const std::string& host, uint16_t port, const Waiter& waiter);

// Sends all of `bytes`. OK also when the other side closes before it has taken them all, since what
// it has replied may still be read.
absl::Status SendAll(int fd, absl::Span<const std::byte> bytes, const Waiter& waiter);
// Adds to `reply` until it has `size_max` bytes or the other side has closed.
absl::Status ReceiveUpTo(int fd, size_t size_max, const Waiter& waiter, std::string& reply);

// The errno of the system call that made `status` an error; 0 when none did.
int ErrnoOf(const absl::Status& status);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_WIRE_TCP_H_
