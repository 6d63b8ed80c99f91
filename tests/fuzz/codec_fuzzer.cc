// Any bytes as a request, and as a reply: what is decoded is inside its limits, and comes back when
// it is encoded and decoded again.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>

#include "absl/types/span.h"
#include "daemon/wire/protocol.h"
#include "tests/fuzz/input.h"

namespace evermap {
namespace {

bool IsSame(const protocol::NodeDescription& a, const protocol::NodeDescription& b) {
  return a.port == b.port && a.node_type == b.node_type && a.protocol == b.protocol &&
         a.highest_version == b.highest_version && a.lowest_version == b.lowest_version &&
         a.name == b.name && a.extra == b.extra;
}

std::optional<protocol::Request> DecodeFrame(absl::Span<const std::byte> frame) {
  Require(protocol::InspectFrame(frame) == protocol::FrameState::kComplete);
  return protocol::DecodeRequest(frame.subspan(protocol::kLengthSize));
}

void TryRequest(absl::Span<const std::byte> bytes) {
  if (protocol::InspectFrame(bytes) != protocol::FrameState::kComplete) return;
  const std::optional<protocol::Request> request = DecodeFrame(bytes);
  if (!request.has_value()) return;
  std::array<std::byte, protocol::kFrameSizeMax> frame;
  if (const auto* alive = std::get_if<protocol::Alive2Request>(&*request)) {
    if (!alive->acceptable || alive->node.name.empty()) return;
    Require(alive->node.name.size() <= protocol::kNameSizeMax);
    Require(alive->node.extra.size() <= protocol::kExtraSizeMax);
    const size_t size = protocol::EncodeAlive2Request(alive->node, absl::MakeSpan(frame));
    const auto again = DecodeFrame(absl::MakeConstSpan(frame.data(), size));
    Require(again.has_value());
    Require(IsSame(std::get<protocol::Alive2Request>(*again).node, alive->node));
    std::array<std::byte, protocol::kPort2ReplySizeMax> reply;
    const size_t reply_size = protocol::EncodePort2Reply(alive->node, absl::MakeSpan(reply));
    const auto decoded = protocol::DecodePort2Reply(absl::MakeConstSpan(reply.data(), reply_size));
    Require(decoded.ok() && decoded->result == 0 && IsSame(decoded->node, alive->node));
  } else if (const auto* lookup = std::get_if<protocol::Port2Request>(&*request)) {
    Require(!lookup->name.empty() && lookup->name.find('\0') == std::string_view::npos);
    Require(lookup->name.size() <= protocol::kNameSizeMax);
    const size_t size = protocol::EncodePort2Request(lookup->name, absl::MakeSpan(frame));
    const auto again = DecodeFrame(absl::MakeConstSpan(frame.data(), size));
    Require(again.has_value());
    Require(std::get<protocol::Port2Request>(*again).name == lookup->name);
  } else if (const auto* stop = std::get_if<protocol::StopRequest>(&*request)) {
    Require(stop->name.find('\0') == std::string_view::npos);
  }
}

void TryReply(absl::Span<const std::byte> bytes) {
  if (!bytes.empty()) {
    const auto size = protocol::Alive2ReplySize(bytes[0]);
    Require(!size.has_value() || *size <= protocol::kAlive2ReplySizeMax);
  }
  (void)protocol::DecodeAlive2Reply(bytes);
  (void)protocol::DecodePort2Reply(bytes);
  (void)protocol::DecodeNamesReply(bytes);
}

}  // namespace
}  // namespace evermap

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), size);
  evermap::TryRequest(bytes);
  (void)evermap::protocol::DecodeRequest(bytes);
  evermap::TryReply(bytes);
  return 0;
}
