#include "daemon/systemd/bus.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "daemon/host/steady_time.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr size_t kReceiveSize = 4096;
// The longest line of an authentication; the specification has no bound.
constexpr size_t kLineMax = 1024;
constexpr char kLineEnd[] = "\r\n";

}  // namespace

absl::StatusOr<Bus> Bus::Connect(const std::string& path, absl::Duration timeout) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is too long for a socket"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Bus bus(OwnedFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), path, timeout);
  // A local socket connects at once, or is refused: EAGAIN says that too many wait there.
  if (!bus.socket_.valid() ||
      connect(bus.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
          0) {
    return bus.Error(errno);
  }
  const absl::Status status = bus.Authenticate();
  if (!status.ok()) return status;
  return bus;
}

// The kernel tells the other end which user this is, so that naming it is all there is to say.
// AUTH and BEGIN are one write: systemd 252 reads its socket until the line BEGIN, and when that
// comes by itself loses the call that comes with it.
absl::Status Bus::Authenticate() {
  const absl::Time deadline = SteadyNow() + timeout_;
  std::string lines(1, '\0');
  absl::StrAppend(&lines, "AUTH EXTERNAL ", absl::BytesToHexString(absl::StrCat(geteuid())),
                  kLineEnd, "BEGIN", kLineEnd);
  absl::Status status = Send(lines, deadline);
  size_t end = std::string::npos;
  while (status.ok() && (end = received_.find(kLineEnd)) == std::string::npos) {
    if (received_.size() > kLineMax) return Error(EPROTO);
    status = Receive(received_.size() + 1, deadline);
  }
  if (!status.ok()) return status;
  if (!received_.starts_with("OK ")) return Error(EACCES);
  received_.erase(0, end + std::strlen(kLineEnd));
  return absl::OkStatus();
}

absl::StatusOr<BusMessage> Bus::Call(const BusCall& call) {
  const absl::Time deadline = SteadyNow() + timeout_;
  const uint32_t serial = ++last_serial_;
  const absl::Status status = Send(EncodeCall(call, serial), deadline);
  if (!status.ok()) return status;
  absl::StatusOr<BusMessage> reply = AwaitReply(serial, deadline);
  if (!reply.ok() || reply->type != BusMessageType::kError) return reply;
  BusReader reader(reply->body);
  std::string text;
  if (reply->signature.starts_with('s')) text = reader.String();
  return absl::FailedPreconditionError(text.empty() ? reply->error_name : text);
}

absl::StatusOr<BusMessage> Bus::AwaitReply(uint32_t serial, absl::Time deadline) {
  while (true) {
    absl::Status status = Receive(kBusPrefixSize, deadline);
    if (!status.ok()) return status;
    const auto size = BusMessageSize(std::string_view(received_).substr(0, kBusPrefixSize));
    if (!size.has_value()) return Error(EPROTO);
    status = Receive(*size, deadline);
    if (!status.ok()) return status;
    std::optional<BusMessage> message =
        DecodeBusMessage(std::string_view(received_).substr(0, *size));
    received_.erase(0, *size);
    if (!message.has_value()) return Error(EPROTO);
    // Signals that a bus sends to each of its clients, and a reply to a call that was given up.
    if (message->reply_serial == serial &&
        (message->type == BusMessageType::kReply || message->type == BusMessageType::kError)) {
      return *std::move(message);
    }
  }
}

absl::Status Bus::Send(const std::string& bytes, absl::Time deadline) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t now = send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (now >= 0) {
      sent += static_cast<size_t>(now);
    } else if (errno == EAGAIN) {
      absl::Status status = Await(POLLOUT, deadline);
      if (!status.ok()) return status;
    } else if (errno != EINTR) {
      return Error(errno);
    }
  }
  return absl::OkStatus();
}

absl::Status Bus::Receive(size_t size, absl::Time deadline) {
  while (received_.size() < size) {
    char bytes[kReceiveSize];
    const ssize_t got = recv(socket_.get(), bytes, sizeof(bytes), 0);
    if (got > 0) {
      received_.append(bytes, static_cast<size_t>(got));
    } else if (got == 0) {
      return Error(ECONNRESET);
    } else if (errno == EAGAIN) {
      absl::Status status = Await(POLLIN, deadline);
      if (!status.ok()) return status;
    } else if (errno != EINTR) {
      return Error(errno);
    }
  }
  return absl::OkStatus();
}

absl::Status Bus::Await(short events, absl::Time deadline) {
  const int64_t left_ms = absl::ToInt64Milliseconds(deadline - SteadyNow());
  if (left_ms <= 0) return Error(ETIMEDOUT);
  constexpr int64_t kPollMsMax = 60'000;
  pollfd waiting = {socket_.get(), events, 0};
  // What is wrong, or that nothing came, the caller's next call and the next wait find out.
  if (poll(&waiting, 1, static_cast<int>(std::min(left_ms, kPollMsMax))) < 0 && errno != EINTR) {
    return Error(errno);
  }
  return absl::OkStatus();
}

absl::Status Bus::Error(int error) const {
  return absl::UnavailableError(absl::StrCat(path_, ": ", ErrorText(error)));
}

}  // namespace evermap
