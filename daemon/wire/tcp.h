// A blocking conversation over TCP, with one deadline for all of it: what speaks to mappers
// (client.h) and to nodes.
//
//   const Waiter waiter("mapper on 127.0.0.1 port 4369", absl::Seconds(5));
//   absl::StatusOr<TcpConnection> connection = Connect("127.0.0.1", 4369, waiter);
//   std::string reply;
//   absl::Status status = SendAll(connection->fd(), request, waiter);
//   if (status.ok()) status = ReceiveUpTo(connection->fd(), 100, waiter, reply);
//
// Errors, with who it was about at the head of the message, and a way out:
//   kUnavailable        nobody listens there, the host cannot be reached, or the connection was
//   reset kDeadlineExceeded   not done in time kInvalidArgument    the host has no address
//   kResourceExhausted  out of file descriptors
// ErrnoOf() tells the first kind's errors apart.
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

// A connected, non-blocking socket, closed with its owner.
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

// The end of a conversation, and the one who waits for it.
class Waiter {
 public:
  // `who`: the other side, for messages.
  Waiter(std::string who, absl::Duration timeout);

  const std::string& who() const { return who_; }
  // Waits until `fd` is ready for `events` (of poll(2)) or has failed. `what`: what cannot be done
  // otherwise.
  absl::Status Wait(int fd, short events, std::string_view what) const;

 private:
  std::string who_;
  absl::Duration timeout_;
  absl::Time deadline_;
};

// Never empty.
using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;
// `host` is an IPv4 or IPv6 address, or a name. The resolver has a timeout of its own.
absl::StatusOr<Addresses> Resolve(const std::string& host, uint16_t port);

absl::StatusOr<TcpConnection> ConnectTo(const addrinfo& address, const Waiter& waiter);
// Tries the addresses of `host` in turn; the error is the last one's.
absl::StatusOr<TcpConnection> Connect(const std::string& host, uint16_t port, const Waiter& waiter);

// OK also when the other side closes before it has taken all: what it replied may still be there.
absl::Status SendAll(int fd, absl::Span<const std::byte> bytes, const Waiter& waiter);
// Adds to `reply` until it has `size_max` bytes or the other side has closed.
absl::Status ReceiveUpTo(int fd, size_t size_max, const Waiter& waiter, std::string& reply);

// Of the system call that failed; 0 when none did.
int ErrnoOf(const absl::Status& status);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_WIRE_TCP_H_
