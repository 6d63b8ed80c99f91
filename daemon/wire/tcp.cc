#include "daemon/wire/tcp.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/host/steady_time.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr size_t kReceiveSize = 65536;
// The name of the payload that carries the errno in a status.
constexpr char kErrnoPayload[] = "errno";

absl::Status WithErrno(absl::Status status, int error) {
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(error)));
  return status;
}

absl::Status ErrorFromErrno(const std::string& who, std::string_view what, int error) {
  const std::string message = absl::StrFormat("%s: %s: %s", who, what, std::strerror(error));
  switch (error) {
    case EMFILE:
    case ENFILE:
      return WithErrno(
          absl::ResourceExhaustedError(message + "; raise the limit of open files (ulimit -n)"),
          error);
    case ECONNREFUSED:
      return WithErrno(absl::UnavailableError(message + "; is it running, and on that port?"),
                       error);
    default:
      return WithErrno(absl::UnavailableError(message), error);
  }
}

// Whether the two ends of the connection are one. A connect to a port on which nobody listens
// succeeds, rarely, when the kernel picks that very port for this end.
bool IsConnectedToItself(int fd) {
  sockaddr_storage own{};
  sockaddr_storage peer{};
  socklen_t own_size = sizeof(own);
  socklen_t peer_size = sizeof(peer);
  return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) == 0 &&
         own_size == peer_size && std::memcmp(&own, &peer, own_size) == 0;
}

}  // namespace

TcpConnection& TcpConnection::operator=(TcpConnection&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

TcpConnection::~TcpConnection() {
  if (fd_ >= 0) close(fd_);
}

Waiter::Waiter(std::string who, absl::Duration timeout)
    : who_(std::move(who)), timeout_(timeout), deadline_(SteadyNow() + timeout) {}

absl::Status Waiter::Wait(int fd, short events, std::string_view what) const {
  for (;;) {
    // The time is rounded up: rounded down it would be 0 in the last millisecond, and poll(2) would
    // be called over and over.
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline_ - SteadyNow()) + 1;
    if (left_ms <= 0 || SteadyNow() >= deadline_) {
      return absl::DeadlineExceededError(
          absl::StrFormat("%s: %s: not within %s; it may be overloaded or stopped", who_, what,
                          absl::FormatDuration(timeout_)));
    }
    pollfd waited{.fd = fd, .events = events, .revents = 0};
    const int timeout_ms =
        static_cast<int>(std::min<int64_t>(left_ms, std::numeric_limits<int>::max()));
    const int ready = poll(&waited, 1, timeout_ms);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return ErrorFromErrno(who_, what, errno);
  }
}

absl::StatusOr<TcpConnection> ConnectTo(const addrinfo& address, const Waiter& waiter) {
  TcpConnection connection(
      socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, address.ai_protocol));
  if (connection.fd() < 0) return ErrorFromErrno(waiter.who(), "cannot open a socket", errno);
  constexpr std::string_view kConnect = "cannot connect";
  if (connect(connection.fd(), address.ai_addr, address.ai_addrlen) != 0) {
    // After EINTR the kernel goes on connecting, as after EINPROGRESS.
    if (errno != EINPROGRESS && errno != EINTR) {
      return ErrorFromErrno(waiter.who(), kConnect, errno);
    }
    if (absl::Status status = waiter.Wait(connection.fd(), POLLOUT, kConnect); !status.ok()) {
      return status;
    }
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(connection.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return ErrorFromErrno(waiter.who(), kConnect, error);
  }
  if (IsConnectedToItself(connection.fd())) {
    return ErrorFromErrno(waiter.who(), kConnect, ECONNREFUSED);
  }
  return connection;
}

absl::StatusOr<Addresses> Resolve(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), absl::StrFormat("%d", port).c_str(), &hints, &found);
  if (error != 0 || found == nullptr) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "no address of host %s: %s; give an IP address, or a name that this host can look up",
        Quote(host), error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error)));
  }
  return Addresses(found, &freeaddrinfo);
}

absl::StatusOr<TcpConnection> Connect(const std::string& host, uint16_t port,
                                      const Waiter& waiter) {
  const auto addresses = Resolve(host, port);
  if (!addresses.ok()) return addresses.status();
  absl::StatusOr<TcpConnection> connection = absl::UnavailableError("no address");
  for (const addrinfo* address = addresses->get(); address != nullptr; address = address->ai_next) {
    connection = ConnectTo(*address, waiter);
    if (connection.ok() || absl::IsDeadlineExceeded(connection.status())) break;
  }
  return connection;
}

absl::Status SendAll(int fd, absl::Span<const std::byte> bytes, const Waiter& waiter) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      if (absl::Status status = waiter.Wait(fd, POLLOUT, "cannot send"); !status.ok()) {
        return status;
      }
    } else if (errno == EPIPE || errno == ECONNRESET) {
      // The other side has closed before all was sent. What it replied may still be there.
      return absl::OkStatus();
    } else if (errno != EINTR) {
      return ErrorFromErrno(waiter.who(), "cannot send", errno);
    }
  }
  return absl::OkStatus();
}

absl::Status ReceiveUpTo(int fd, size_t size_max, const Waiter& waiter, std::string& reply) {
  constexpr std::string_view kReceive = "no whole reply";
  while (reply.size() < size_max) {
    const size_t before = reply.size();
    const size_t wanted = std::min(kReceiveSize, size_max - before);
    reply.resize(before + wanted);
    const ssize_t received = recv(fd, reply.data() + before, wanted, 0);
    const int error = errno;
    reply.resize(before + static_cast<size_t>(std::max<ssize_t>(received, 0)));
    if (received == 0) break;
    if (received > 0 || error == EINTR) continue;
    if (error != EAGAIN) return ErrorFromErrno(waiter.who(), kReceive, error);
    if (absl::Status status = waiter.Wait(fd, POLLIN, kReceive); !status.ok()) return status;
  }
  return absl::OkStatus();
}

int ErrnoOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrnoPayload);
  int error = 0;
  return payload.has_value() && absl::SimpleAtoi(std::string(*payload), &error) ? error : 0;
}

}  // namespace evermap
