#include "bench/node_set.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/protocol.h"

namespace evermap::bench {
namespace {

constexpr uint16_t kPortFirst = 20000;
constexpr size_t kPorts = 10000;

absl::Status SendAll(int fd, absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, "cannot send a registration");
    }
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::Status ReceiveExactly(int fd, absl::Span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t received = recv(fd, bytes.data(), bytes.size(), 0);
    if (received == 0) {
      return absl::UnavailableError("the mapper closed the connection of a registration");
    }
    if (received < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return absl::UnavailableError(absl::StrCat("the mapper did not answer a registration for ",
                                                   NodeSet::kReplyTimeoutS, " s"));
      }
      return absl::ErrnoToStatus(errno, "no reply to a registration");
    }
    bytes.remove_prefix(static_cast<size_t>(received));
  }
  return absl::OkStatus();
}

absl::Status RegisterOne(const Endpoint& endpoint, NodeSet::Node& node) {
  absl::StatusOr<UniqueFd> connection = Connect(endpoint);
  if (!connection.ok()) return connection.status();
  const timeval timeout{.tv_sec = NodeSet::kReplyTimeoutS, .tv_usec = 0};
  if (setsockopt(connection->get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0) {
    return absl::ErrnoToStatus(errno, "SO_RCVTIMEO");
  }

  std::array<std::byte, protocol::kFrameSizeMax> request;
  const size_t request_size = protocol::EncodeAlive2Request({.port = node.port, .name = node.name},
                                                            absl::MakeSpan(request));
  absl::Status status =
      SendAll(connection->get(), absl::MakeConstSpan(request).first(request_size));
  if (!status.ok()) return status;

  std::array<std::byte, protocol::kAlive2ReplySizeMax> bytes;
  status = ReceiveExactly(connection->get(), absl::MakeSpan(bytes).first(1));
  if (!status.ok()) return status;
  const std::optional<size_t> size = protocol::Alive2ReplySize(bytes[0]);
  if (!size.has_value()) {
    return absl::InternalError("what answers a registration is not a mapper");
  }
  const absl::Span<std::byte> reply = absl::MakeSpan(bytes).first(*size);
  status = ReceiveExactly(connection->get(), reply.subspan(1));
  if (!status.ok()) return status;
  const absl::StatusOr<protocol::Alive2Reply> decoded = protocol::DecodeAlive2Reply(reply);
  if (!decoded.ok()) return decoded.status();
  if (decoded->result != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("the mapper refused node '", node.name,
                     "'; is it registered by another bench? Try another --prefix"));
  }
  node.connection = *std::move(connection);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NodeSet> NodeSet::Register(const Endpoint& endpoint, const std::string& prefix,
                                          size_t count) {
  NodeSet set;
  set.nodes_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    Node& node = set.nodes_[i];
    node.name = absl::StrCat(prefix, i + 1);
    node.port = static_cast<uint16_t>(kPortFirst + i % kPorts);
    const absl::Status status = RegisterOne(endpoint, node);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("node ", i + 1, " of ", count, ": ", status.message()));
    }
  }
  return set;
}

}  // namespace evermap::bench
