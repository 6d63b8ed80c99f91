#include "daemon/client.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace evermap {
namespace {

constexpr size_t kReceiveSize = 65536;

using FrameBuffer = std::array<std::byte, protocol::kFrameSizeMax>;

absl::Span<const std::byte> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Names come from users and from the network: whatever is in them, a message stays one line.
std::string Quote(std::string_view name) {
  return absl::StrFormat("'%s'",
                         absl::Utf8SafeCHexEscape(absl::string_view(name.data(), name.size())));
}

absl::Status ErrorFromErrno(const std::string& who, std::string_view what, int error) {
  const std::string message = absl::StrFormat("%s: %s: %s", who, what, std::strerror(error));
  switch (error) {
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message + "; raise the limit of open files (ulimit -n)");
    case ECONNREFUSED:
      return absl::UnavailableError(message + "; is it running, and on that port?");
    default:
      return absl::UnavailableError(message);
  }
}

// The end of an exchange, and the socket that waits for it.
class Waiter {
 public:
  Waiter(std::string who, absl::Duration timeout)
      : who_(std::move(who)), timeout_(timeout), deadline_(absl::Now() + timeout) {}

  const std::string& who() const { return who_; }

  // Waits until `fd` is ready for `events` (of poll(2)) or has failed.
  absl::Status Wait(int fd, short events, std::string_view what) const {
    for (;;) {
      // Rounded up, so that the last wait is not followed by a busy one.
      const int64_t left_ms = absl::ToInt64Milliseconds(deadline_ - absl::Now()) + 1;
      if (left_ms <= 0 || absl::Now() >= deadline_) {
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

 private:
  std::string who_;
  absl::Duration timeout_;
  absl::Time deadline_;
};

// A connect to a port that nobody listens on succeeds, rarely, when the kernel picks that very port
// for our end.
bool IsConnectedToItself(int fd) {
  sockaddr_storage own{};
  sockaddr_storage peer{};
  socklen_t own_size = sizeof(own);
  socklen_t peer_size = sizeof(peer);
  return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) == 0 &&
         own_size == peer_size && std::memcmp(&own, &peer, own_size) == 0;
}

absl::StatusOr<Connection> ConnectTo(const addrinfo& address, const Waiter& waiter) {
  Connection connection(
      socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, address.ai_protocol));
  if (connection.fd() < 0) return ErrorFromErrno(waiter.who(), "cannot open a socket", errno);
  constexpr std::string_view kConnect = "cannot connect";
  if (connect(connection.fd(), address.ai_addr, address.ai_addrlen) != 0) {
    // After EINTR the connection goes on being made, as after EINPROGRESS.
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

// Addresses of `host`, never empty.
absl::StatusOr<std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>> Resolve(const std::string& host,
                                                                           uint16_t port) {
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
  return std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>(found, &freeaddrinfo);
}

// Tries the addresses in turn; the error is the last one's.
absl::StatusOr<Connection> Connect(const std::string& host, uint16_t port, const Waiter& waiter) {
  const auto addresses = Resolve(host, port);
  if (!addresses.ok()) return addresses.status();
  absl::StatusOr<Connection> connection = absl::UnavailableError("no address");
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
      // Closed before all was sent. What was replied may still be there.
      return absl::OkStatus();
    } else if (errno != EINTR) {
      return ErrorFromErrno(waiter.who(), "cannot send", errno);
    }
  }
  return absl::OkStatus();
}

// Adds to `reply` until it has `size_max` bytes or the other side has closed.
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

absl::StatusOr<Client::TextReply> SplitText(absl::StatusOr<std::string> reply) {
  if (!reply.ok()) return reply.status();
  Client::TextReply split;
  for (const std::byte byte : AsBytes(*reply).first(protocol::kPortHeaderSize)) {
    split.mapper_port = split.mapper_port << 8 | static_cast<uint32_t>(byte);
  }
  split.text = reply->substr(protocol::kPortHeaderSize);
  return split;
}

absl::Status CheckName(std::string_view name) {
  if (name.empty() || name.size() > protocol::kNameSizeMax ||
      name.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a node's name has 1 to %d bytes and no NUL, unlike %s",
                        protocol::kNameSizeMax, Quote(name.substr(0, 100))));
  }
  return absl::OkStatus();
}

}  // namespace

Connection& Connection::operator=(Connection&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Connection::~Connection() {
  if (fd_ >= 0) close(fd_);
}

Client::Client(std::string_view host, uint16_t port, const Options& options)
    : host_(host), port_(port), timeout_(options.timeout) {}

std::string Client::Who() const { return absl::StrFormat("mapper on %s port %d", host_, port_); }

absl::Status Client::ClosedEarly(std::string_view likely_cause) const {
  return absl::DataLossError(absl::StrFormat(
      "%s: it closed the connection without a whole reply; %s", Who(), likely_cause));
}

absl::StatusOr<std::string> Client::Exchange(absl::Span<const std::byte> frame,
                                             size_t reply_size_max) const {
  const Waiter waiter(Who(), timeout_);
  const absl::StatusOr<Connection> connection = Connect(host_, port_, waiter);
  if (!connection.ok()) return connection.status();
  absl::Status status = SendAll(connection->fd(), frame, waiter);
  std::string reply;
  if (status.ok()) status = ReceiveUpTo(connection->fd(), reply_size_max, waiter, reply);
  if (!status.ok()) return status;
  return reply;
}

absl::StatusOr<Client::Node> Client::Lookup(std::string_view name) const {
  if (absl::Status status = CheckName(name); !status.ok()) return status;
  FrameBuffer frame;
  const size_t size = protocol::EncodePort2Request(name, absl::MakeSpan(frame));
  const absl::StatusOr<std::string> reply =
      Exchange(absl::MakeConstSpan(frame).first(size), protocol::kPort2ReplySizeMax + 1);
  if (!reply.ok()) return reply.status();
  if (reply->empty()) {
    return ClosedEarly(absl::StrFormat("is %s UTF-8 of at most %d code points?", Quote(name),
                                       protocol::kLookupNameCodePointsMax));
  }
  const absl::StatusOr<protocol::Port2Reply> decoded = protocol::DecodePort2Reply(AsBytes(*reply));
  if (!decoded.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s; is it one?", Who(), decoded.status().message()));
  }
  if (decoded->result != 0) {
    return absl::NotFoundError(absl::StrFormat("%s: no node %s is registered", Who(), Quote(name)));
  }
  const protocol::NodeDescription& node = decoded->node;
  return Node{.port = node.port,
              .node_type = node.node_type,
              .protocol = node.protocol,
              .highest_version = node.highest_version,
              .lowest_version = node.lowest_version,
              .name = std::string(node.name),
              .extra = std::string(node.extra)};
}

absl::StatusOr<std::vector<Client::NamedPort>> Client::Names() const {
  FrameBuffer frame;
  const size_t size = protocol::EncodeNamesRequest(absl::MakeSpan(frame));
  const absl::StatusOr<std::string> reply = AskForText(absl::MakeConstSpan(frame).first(size));
  if (!reply.ok()) return reply.status();
  const absl::StatusOr<protocol::NamesReply> decoded = protocol::DecodeNamesReply(AsBytes(*reply));
  if (!decoded.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s; is it one?", Who(), decoded.status().message()));
  }
  std::vector<NamedPort> names;
  names.reserve(decoded->entries.size());
  for (const protocol::NamesReply::Entry& entry : decoded->entries) {
    names.push_back({.name = std::string(entry.name), .port = entry.port});
  }
  return names;
}

absl::StatusOr<std::string> Client::AskForText(absl::Span<const std::byte> frame) const {
  absl::StatusOr<std::string> reply = Exchange(frame, kReplySizeMax);
  if (!reply.ok()) return reply.status();
  if (reply->size() == kReplySizeMax) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: its reply has %d bytes or more; is it one?", Who(), kReplySizeMax));
  }
  if (reply->size() < protocol::kPortHeaderSize) {
    return ClosedEarly("is it a mapper, and is it asked from its own host?");
  }
  return reply;
}

absl::StatusOr<Client::TextReply> Client::NamesText() const {
  FrameBuffer frame;
  const size_t size = protocol::EncodeNamesRequest(absl::MakeSpan(frame));
  return SplitText(AskForText(absl::MakeConstSpan(frame).first(size)));
}

absl::StatusOr<Client::TextReply> Client::Dump() const {
  FrameBuffer frame;
  const size_t size = protocol::EncodeDumpRequest(absl::MakeSpan(frame));
  return SplitText(AskForText(absl::MakeConstSpan(frame).first(size)));
}

absl::Status Client::Kill() const {
  FrameBuffer frame;
  const size_t size = protocol::EncodeKillRequest(absl::MakeSpan(frame));
  const absl::StatusOr<std::string> reply =
      Exchange(absl::MakeConstSpan(frame).first(size), protocol::kKillReplyOk.size());
  if (!reply.ok()) return reply.status();
  if (*reply == protocol::kKillReplyOk) return absl::OkStatus();
  if (reply->size() < protocol::kKillReplyOk.size()) {
    return ClosedEarly("it can be ended from its own host only");
  }
  return absl::FailedPreconditionError(absl::StrFormat(
      "%s: it does not end while nodes are registered; stop them first, or start it "
      "with -relaxed_command_check",
      Who()));
}

absl::Status Client::Stop(std::string_view name) const {
  if (absl::Status status = CheckName(name); !status.ok()) return status;
  FrameBuffer frame;
  const size_t size = protocol::EncodeStopRequest(name, absl::MakeSpan(frame));
  // The stock epmd says "NOEXISTSTOPPED" of a name it does not know.
  const absl::StatusOr<std::string> reply =
      Exchange(absl::MakeConstSpan(frame).first(size), protocol::kStopReplyStopped.size());
  if (!reply.ok()) return reply.status();
  if (*reply == protocol::kStopReplyStopped) return absl::OkStatus();
  if (*reply == protocol::kStopReplyUnknown) {
    return absl::NotFoundError(absl::StrFormat("%s: no node %s is registered", Who(), Quote(name)));
  }
  if (reply->size() < protocol::kStopReplyStopped.size()) {
    return ClosedEarly(
        "it unregisters nodes by force only when asked from its own host and started with "
        "-relaxed_command_check");
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: it replied %s to STOP; is it one?", Who(), Quote(*reply)));
}

absl::StatusOr<RegisteredNode> Client::Register(const protocol::NodeDescription& node) const {
  if (absl::Status status = CheckName(node.name); !status.ok()) return status;
  if (node.extra.size() > protocol::kExtraSizeMax) {
    return absl::InvalidArgumentError(absl::StrFormat("a node's extra has at most %d bytes, not %d",
                                                      protocol::kExtraSizeMax, node.extra.size()));
  }
  FrameBuffer frame;
  const size_t size = protocol::EncodeAlive2Request(node, absl::MakeSpan(frame));
  const Waiter waiter(Who(), timeout_);
  absl::StatusOr<Connection> connection = Connect(host_, port_, waiter);
  if (!connection.ok()) return connection.status();
  absl::Status status = SendAll(connection->fd(), absl::MakeConstSpan(frame).first(size), waiter);
  std::string reply;
  if (status.ok()) status = ReceiveUpTo(connection->fd(), 1, waiter, reply);
  if (status.ok() && !reply.empty()) {
    const std::optional<size_t> reply_size =
        protocol::Alive2ReplySize(static_cast<std::byte>(reply.front()));
    if (reply_size.has_value()) {
      status = ReceiveUpTo(connection->fd(), *reply_size, waiter, reply);
      if (status.ok() && reply.size() < *reply_size) reply.clear();
    }
  }
  if (!status.ok()) return status;
  if (reply.empty()) return ClosedEarly("it registers nodes of its own host only");
  const absl::StatusOr<protocol::Alive2Reply> decoded = protocol::DecodeAlive2Reply(AsBytes(reply));
  if (!decoded.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s; is it one?", Who(), decoded.status().message()));
  }
  if (decoded->result != 0) {
    return absl::AlreadyExistsError(
        absl::StrFormat("%s: it refuses node %s; is the name taken, or no UTF-8 of at most %d code "
                        "points?",
                        Who(), Quote(node.name), protocol::kNameCodePointsMax));
  }
  return RegisteredNode(*std::move(connection), decoded->creation);
}

}  // namespace evermap
