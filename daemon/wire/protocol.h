// The EPMD wire protocol as pure functions over byte spans, for the server's side and the client's.
//
// A request on the wire is a frame: a 2-byte length, then a body of that many bytes, the first of
// which says what is asked. A reply has no length: it ends with the connection. Only the connection
// of an ALIVE2 stays open after the reply, for as long as the node wants to be registered. All
// numbers are big-endian.
//
//   std::array<std::byte, protocol::kFrameSizeMax> frame;
//   size_t size = protocol::EncodePort2Request({.name = "rabbit"}, absl::MakeSpan(frame));
//   ... send frame.first(size), receive `bytes` until the server closes ...
//   absl::StatusOr<protocol::Port2Reply> reply = protocol::DecodePort2Reply(bytes);
//
// Nothing in here does I/O, allocates on the server's path, or keeps state. Decoded values are
// views into the bytes that they were decoded from, and are valid as long as those. The layouts are
// those of "Distribution Protocol" in the ERTS User's Guide.
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_WIRE_PROTOCOL_H_
#define EVERMAP_DAEMON_WIRE_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace evermap::protocol {

inline constexpr uint16_t kDefaultPort = 4369;
inline constexpr size_t kLengthSize = 2;
// Longest body that a server accepts, in bytes: the longest one that the stock epmd 13.1 was seen
// to accept.
inline constexpr size_t kBodySizeMax = 3057;
inline constexpr size_t kFrameSizeMax = kLengthSize + kBodySizeMax;
inline constexpr size_t kNameSizeMax = 1020;       // bytes of UTF-8
inline constexpr size_t kNameCodePointsMax = 255;  // Unicode code points
// PORT2 takes one code point less: the stock epmd was seen to register a name of 255 code points,
// and to close the connection without a reply when it was asked for that name.
inline constexpr size_t kLookupNameCodePointsMax = 254;
inline constexpr size_t kExtraSizeMax = 1020;  // bytes
// Longest reply of fixed shape, bytes: PORT2 with the longest name and extra.
inline constexpr size_t kPort2ReplySizeMax =
    2 + 2 + 1 + 1 + 2 + 2 + 2 + kNameSizeMax + 2 + kExtraSizeMax;
inline constexpr size_t kAlive2ReplySizeMax = 6;
inline constexpr uint8_t kNodeTypeHidden = 72;
inline constexpr uint8_t kNodeTypeNormal = 77;
inline constexpr uint8_t kProtocolTcp4 = 0;
// A node whose highest version is at least this understands the 32-bit creation ('v').
inline constexpr uint16_t kVersionWithLongCreation = 6;
// The creation in the reply to a refused ALIVE2.
inline constexpr uint32_t kRefusedCreation = 99;

// A node of an older version gets a short creation, from 1 to this number ('y').
inline constexpr uint32_t kShortCreations = 3;

// What a node says about itself (ALIVE2) and others get to know (PORT2).
struct NodeDescription {
  uint16_t port = 0;
  uint8_t node_type = kNodeTypeNormal;
  uint8_t protocol = kProtocolTcp4;
  uint16_t highest_version = kVersionWithLongCreation;
  uint16_t lowest_version = 5;
  std::string_view name = {};
  std::string_view extra = {};
};

// The requests. Each has its code, the first byte of its body.
struct Alive2Request {
  static constexpr uint8_t kCode = 'x';
  NodeDescription node;
  // False where the layout is right, but the content is such that the node gets a refusal instead
  // of a closed connection: malformed UTF-8, too many code points, too many bytes of name or extra,
  // or a control character in the name (registry/base/text.h), with which it could forge lines of
  // NAMES. The stock epmd takes these.
  // The name may be empty, as long as the body is longer than one with an empty name and extra.
  bool acceptable = true;
};
struct Port2Request {
  static constexpr uint8_t kCode = 'z';
  std::string_view name;  // valid UTF-8 of 1 to kLookupNameCodePointsMax code points, without NUL
};
struct NamesRequest {
  static constexpr uint8_t kCode = 'n';
};
struct DumpRequest {
  static constexpr uint8_t kCode = 'd';
};
struct KillRequest {
  static constexpr uint8_t kCode = 'k';
};
struct StopRequest {
  static constexpr uint8_t kCode = 's';
  std::string_view name;  // any bytes but NUL, as many as a body has; may be empty
};
using Request =
    std::variant<Alive2Request, Port2Request, NamesRequest, DumpRequest, KillRequest, StopRequest>;

enum class FrameState {
  kIncomplete,  // more bytes are needed
  kComplete,    // exactly one whole frame
  kMalformed,   // length 0 or over kBodySizeMax, or more bytes than announced
};

// Server side. Says what `received`, all bytes that have come on a connection so far, are.
FrameState InspectFrame(absl::Span<const std::byte> received);
// Server side. Returns the size, with its length, of the frame that begins `received`. The stock
// epmd ignores bytes beyond the frame that come later than its length.
// REQUIRES: received.size() >= kLengthSize.
size_t AnnouncedFrameSize(absl::Span<const std::byte> received);

// Server side. Decodes a whole body, without its length. Returns nothing where the connection is to
// be closed without a reply: an unknown request, lengths that do not fit, NUL in a name, ... Bytes
// after what a request needs are no error, as long as they are in its frame.
std::optional<Request> DecodeRequest(absl::Span<const std::byte> body);

// Server side: encoders write to the front of `out` and return the bytes written. Which of the two
// layouts an ALIVE2 reply has follows from the node's highest version; the short one carries
// creation % kShortCreations + 1.
// REQUIRES: out.size() is at least the matching ...SizeMax.
size_t EncodeAlive2Reply(uint16_t highest_version, uint32_t creation, absl::Span<std::byte> out);
size_t EncodeAlive2Refusal(uint16_t highest_version, absl::Span<std::byte> out);
size_t EncodePort2Reply(const NodeDescription& node, absl::Span<std::byte> out);
size_t EncodePort2Unknown(absl::Span<std::byte> out);
// The 4-byte number at the head of NAMES and DUMP replies.
inline constexpr size_t kPortHeaderSize = 4;
void EncodePortHeader(uint16_t mapper_port, absl::Span<std::byte> out);
// Append one line of a NAMES reply, and of a DUMP reply (with its final NUL); a name with control
// characters as Printable() has it.
void AppendNamesLine(std::string_view name, uint16_t port, std::string& out);
void AppendDumpLineActive(std::string_view name, uint16_t port, int fd, std::string& out);
// The line of a node that lost its connection. The stock epmd has no such line.
void AppendDumpLineOrphaned(std::string_view name, uint16_t port, std::string& out);
void AppendDumpLineOld(std::string_view name, uint16_t port, int fd, std::string& out);
inline constexpr std::string_view kKillReplyOk = "OK";
inline constexpr std::string_view kKillReplyRefused = "NO";
inline constexpr std::string_view kStopReplyStopped = "STOPPED";
inline constexpr std::string_view kStopReplyUnknown = "NOEXIST";

// Client side: encoders write a whole frame to the front of `out` and return its size.
// REQUIRES: out.size() >= kFrameSizeMax; name and extra within their limits.
size_t EncodeAlive2Request(const NodeDescription& node, absl::Span<std::byte> out);
size_t EncodePort2Request(std::string_view name, absl::Span<std::byte> out);
size_t EncodeNamesRequest(absl::Span<std::byte> out);
size_t EncodeDumpRequest(absl::Span<std::byte> out);
size_t EncodeKillRequest(absl::Span<std::byte> out);
size_t EncodeStopRequest(std::string_view name, absl::Span<std::byte> out);

struct Alive2Reply {
  uint8_t result = 0;  // 0: registered
  uint32_t creation = 0;
};
struct Port2Reply {
  uint8_t result = 0;  // 0: known, and `node` is filled; else unknown
  NodeDescription node;
};
struct NamesReply {
  struct Entry {
    std::string_view name;
    uint16_t port = 0;
  };
  uint32_t mapper_port = 0;
  std::vector<Entry> entries;
};

// Client side. Returns the size of a whole ALIVE2 reply that begins with `first` ('v' or 'y'), or
// nothing for another byte. A client must know the size, since this reply does not end with its
// connection.
std::optional<size_t> Alive2ReplySize(std::byte first);
// Client side: decoders take a whole reply. The message of kInvalidArgument says what does not fit.
absl::StatusOr<Alive2Reply> DecodeAlive2Reply(absl::Span<const std::byte> reply);
absl::StatusOr<Port2Reply> DecodePort2Reply(absl::Span<const std::byte> reply);
absl::StatusOr<NamesReply> DecodeNamesReply(absl::Span<const std::byte> reply);

}  // namespace evermap::protocol

#endif  // EVERMAP_DAEMON_WIRE_PROTOCOL_H_
