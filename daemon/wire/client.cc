#include "daemon/wire/client.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/str_format.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// Whether there is a node of this name does not matter.
constexpr std::string_view kAnybody = "anybody";

using FrameBuffer = std::array<std::byte, protocol::kFrameSizeMax>;

absl::Span<const std::byte> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
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

absl::Status CheckDescription(const protocol::NodeDescription& node) {
  if (absl::Status status = CheckName(node.name); !status.ok()) return status;
  if (node.extra.size() > protocol::kExtraSizeMax) {
    return absl::InvalidArgumentError(absl::StrFormat("a node's extra has at most %d bytes, not %d",
                                                      protocol::kExtraSizeMax, node.extra.size()));
  }
  return absl::OkStatus();
}

}  // namespace

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
  const absl::StatusOr<TcpConnection> connection = Connect(host_, port_, waiter);
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

absl::Status Client::Answers() const {
  absl::Status listed = NamesText().status();
  if (!absl::IsDataLoss(listed)) return listed;
  const absl::Status found = Lookup(kAnybody).status();
  return found.ok() || absl::IsNotFound(found) ? absl::OkStatus() : listed;
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
  if (absl::Status status = CheckDescription(node); !status.ok()) return status;
  const Waiter waiter(Who(), timeout_);
  absl::StatusOr<TcpConnection> connection = Connect(host_, port_, waiter);
  if (!connection.ok()) return connection.status();
  return RegisterWithin(waiter, *std::move(connection), node);
}

absl::StatusOr<RegisteredNode> Client::RegisterOver(TcpConnection connection,
                                                    const protocol::NodeDescription& node) const {
  if (absl::Status status = CheckDescription(node); !status.ok()) return status;
  return RegisterWithin(Waiter(Who(), timeout_), std::move(connection), node);
}

absl::StatusOr<RegisteredNode> Client::RegisterWithin(const Waiter& waiter,
                                                      TcpConnection connection,
                                                      const protocol::NodeDescription& node) const {
  FrameBuffer frame;
  const size_t size = protocol::EncodeAlive2Request(node, absl::MakeSpan(frame));
  absl::Status status = SendAll(connection.fd(), absl::MakeConstSpan(frame).first(size), waiter);
  std::string reply;
  if (status.ok()) status = ReceiveUpTo(connection.fd(), 1, waiter, reply);
  if (status.ok() && !reply.empty()) {
    const std::optional<size_t> reply_size =
        protocol::Alive2ReplySize(static_cast<std::byte>(reply.front()));
    if (reply_size.has_value()) {
      status = ReceiveUpTo(connection.fd(), *reply_size, waiter, reply);
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
  return RegisteredNode(std::move(connection), decoded->creation);
}

}  // namespace evermap
