#include "daemon/wire/protocol.h"

#include <array>
#include <cassert>
#include <charconv>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "registry/base/text.h"

namespace evermap::protocol {
namespace {

// The codes: the first bytes of replies.
constexpr uint8_t kAlive2ReplyLong = 'v';
constexpr uint8_t kAlive2ReplyShort = 'y';
constexpr uint8_t kPort2Reply = 'w';

constexpr uint8_t kResultOk = 0;
constexpr uint8_t kResultRefused = 1;

constexpr size_t kAlive2ReplyLongSize = 1 + 1 + 4;
constexpr size_t kAlive2ReplyShortSize = 1 + 1 + 2;
static_assert(kAlive2ReplyLongSize == kAlive2ReplySizeMax);
constexpr size_t kPort2UnknownSize = 1 + 1;

// Size of a description with an empty name and extra: port, node type, protocol, highest and lowest
// version, size of the name, size of extra.
constexpr size_t kDescriptionSizeMin = 2 + 1 + 1 + 2 + 2 + 2 + 2;
// Size of a body of ALIVE2 with an empty name and extra, which the stock epmd does not accept.
constexpr size_t kAlive2TooShort = 1 + kDescriptionSizeMin;
static_assert(1 + kDescriptionSizeMin + kNameSizeMax + kExtraSizeMax <= kBodySizeMax);
static_assert(2 + kDescriptionSizeMin + kNameSizeMax + kExtraSizeMax == kPort2ReplySizeMax);

std::string_view AsText(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A writer of big-endian numbers and text, one after the other. The caller has promised that there
// is room (REQUIRES in the header); the writer asserts it.
class Writer {
 public:
  explicit Writer(absl::Span<std::byte> out) : out_(out) {}

  void U8(uint8_t value) {
    assert(size_ < out_.size());
    out_[size_++] = std::byte{value};
  }
  void U16(uint16_t value) {
    U8(static_cast<uint8_t>(value >> 8));
    U8(static_cast<uint8_t>(value));
  }
  void U32(uint32_t value) {
    U16(static_cast<uint16_t>(value >> 16));
    U16(static_cast<uint16_t>(value));
  }
  void Text(std::string_view text) {
    assert(text.size() <= out_.size() - size_);
    if (!text.empty()) std::memcpy(out_.data() + size_, text.data(), text.size());
    size_ += text.size();
  }
  void SizedText(std::string_view text) {
    U16(static_cast<uint16_t>(text.size()));
    Text(text);
  }
  size_t size() const { return size_; }

 private:
  absl::Span<std::byte> out_;
  size_t size_ = 0;
};

// A reader of what Writer writes. Reading past the end returns zeros and makes ok() false for good.
class Reader {
 public:
  explicit Reader(absl::Span<const std::byte> in) : in_(in) {}

  uint8_t U8() {
    if (!Has(1)) return 0;
    const uint8_t value = static_cast<uint8_t>(in_.front());
    in_.remove_prefix(1);
    return value;
  }
  uint16_t U16() {
    if (!Has(2)) return 0;
    const unsigned high = U8();
    return static_cast<uint16_t>(high << 8 | U8());
  }
  uint32_t U32() {
    if (!Has(4)) return 0;
    const uint32_t high = U16();
    return high << 16 | U16();
  }
  std::string_view SizedText() {
    const size_t size = U16();
    if (!Has(size)) return {};
    const std::string_view text = AsText(in_.first(size));
    in_.remove_prefix(size);
    return text;
  }
  bool ok() const { return ok_; }
  size_t left() const { return in_.size(); }

 private:
  bool Has(size_t size) {
    if (in_.size() < size) {
      ok_ = false;
      in_ = {};
    }
    return ok_;
  }

  absl::Span<const std::byte> in_;
  bool ok_ = true;
};

void WriteDescription(const NodeDescription& node, Writer& writer) {
  assert(node.name.size() <= kNameSizeMax && node.extra.size() <= kExtraSizeMax);
  writer.U16(node.port);
  writer.U8(node.node_type);
  writer.U8(node.protocol);
  writer.U16(node.highest_version);
  writer.U16(node.lowest_version);
  writer.SizedText(node.name);
  writer.SizedText(node.extra);
}

NodeDescription ReadDescription(Reader& reader) {
  // The fields are in the order of the wire, so each is a statement of its own.
  NodeDescription node;
  node.port = reader.U16();
  node.node_type = reader.U8();
  node.protocol = reader.U8();
  node.highest_version = reader.U16();
  node.lowest_version = reader.U16();
  node.name = reader.SizedText();
  node.extra = reader.SizedText();
  return node;
}

constexpr uint8_t kContinuationMin = 0x80;
constexpr uint8_t kContinuationMax = 0xBF;

// Returns the size in bytes of the well-formed code point at the front of `text`; 0 when there is
// none. Table 3-7 of the Unicode standard says what is well-formed: no overlong form, no surrogate,
// nothing above U+10FFFF. Only the second byte has a range that depends on the first.
size_t CodePointSize(std::string_view text) {
  const auto byte_at = [text](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte_at(0);
  if (first < 0x80) return 1;
  size_t size = 0;
  uint8_t second_min = kContinuationMin;
  uint8_t second_max = kContinuationMax;
  if (first >= 0xC2 && first <= 0xDF) {
    size = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    size = 3;
    if (first == 0xE0) second_min = 0xA0;
    if (first == 0xED) second_max = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    size = 4;
    if (first == 0xF0) second_min = 0x90;
    if (first == 0xF4) second_max = 0x8F;
  } else {
    return 0;
  }
  if (text.size() < size || byte_at(1) < second_min || byte_at(1) > second_max) return 0;
  for (size_t i = 2; i < size; ++i) {
    if (byte_at(i) < kContinuationMin || byte_at(i) > kContinuationMax) return 0;
  }
  return size;
}

// Whether `text` is well-formed UTF-8 of at most `code_points_max` code points.
bool IsUtf8WithinLimit(std::string_view text, size_t code_points_max) {
  size_t code_points = 0;
  while (!text.empty()) {
    const size_t size = CodePointSize(text);
    if (size == 0 || ++code_points > code_points_max) return false;
    text.remove_prefix(size);
  }
  return true;
}

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

std::optional<Request> DecodeAlive2(absl::Span<const std::byte> body) {
  if (body.size() <= kAlive2TooShort) return std::nullopt;
  Reader reader(body.subspan(1));
  Alive2Request request;
  request.node = ReadDescription(reader);
  const std::string_view name = request.node.name;
  // A NUL is looked for first: for it the stock epmd closes the connection, even where something
  // else in the request would get a refusal.
  if (!reader.ok() || HasNul(name)) return std::nullopt;
  request.acceptable = name.size() <= kNameSizeMax && request.node.extra.size() <= kExtraSizeMax &&
                       IsUtf8WithinLimit(name, kNameCodePointsMax) && !HasControls(name);
  return request;
}

std::optional<Request> DecodePort2(std::string_view name) {
  if (!name.empty() && name.back() == '\0') name.remove_suffix(1);
  if (name.empty() || HasNul(name) || !IsUtf8WithinLimit(name, kLookupNameCodePointsMax)) {
    return std::nullopt;
  }
  return Port2Request{.name = name};
}

std::optional<Request> DecodeStop(std::string_view name) {
  if (name.empty()) return std::nullopt;
  return StopRequest{.name = name.substr(0, name.find('\0'))};
}

// An old registry may have names that nobody can register any more.
void AppendName(std::string_view name, std::string& out) {
  if (HasControls(name)) {
    out.append(Printable(name));
  } else {
    out.append(name);
  }
}

size_t EncodeAlive2(uint16_t highest_version, uint8_t result, uint32_t long_creation,
                    uint16_t short_creation, absl::Span<std::byte> out) {
  Writer writer(out);
  if (highest_version >= kVersionWithLongCreation) {
    writer.U8(kAlive2ReplyLong);
    writer.U8(result);
    writer.U32(long_creation);
  } else {
    writer.U8(kAlive2ReplyShort);
    writer.U8(result);
    writer.U16(short_creation);
  }
  return writer.size();
}

size_t EncodeNameRequest(uint8_t kind, std::string_view name, absl::Span<std::byte> out) {
  assert(name.size() < kBodySizeMax);
  Writer writer(out);
  writer.U16(static_cast<uint16_t>(1 + name.size()));
  writer.U8(kind);
  writer.Text(name);
  return writer.size();
}

void AppendNumber(int number, std::string& out) {
  std::array<char, std::numeric_limits<int>::digits10 + 2> digits;
  const std::to_chars_result result =
      std::to_chars(digits.data(), digits.data() + digits.size(), number);
  assert(result.ec == std::errc());
  out.append(digits.data(), result.ptr);
}

// Returns the size of "PORT\n" at the front of `text`, with `port` set; 0 when there is none.
size_t ParsePortLine(std::string_view text, uint16_t& port) {
  const char* const end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(text.data(), end, port);
  if (result.ec != std::errc() || result.ptr == end || *result.ptr != '\n') return 0;
  return static_cast<size_t>(result.ptr + 1 - text.data());
}

}  // namespace

size_t AnnouncedFrameSize(absl::Span<const std::byte> received) {
  assert(received.size() >= kLengthSize);
  return kLengthSize + Reader(received).U16();
}

FrameState InspectFrame(absl::Span<const std::byte> received) {
  if (received.size() < kLengthSize) return FrameState::kIncomplete;
  const size_t body_size = Reader(received).U16();
  if (body_size == 0 || body_size > kBodySizeMax) return FrameState::kMalformed;
  const size_t frame_size = kLengthSize + body_size;
  if (received.size() < frame_size) return FrameState::kIncomplete;
  return received.size() == frame_size ? FrameState::kComplete : FrameState::kMalformed;
}

std::optional<Request> DecodeRequest(absl::Span<const std::byte> body) {
  if (body.empty()) return std::nullopt;
  const std::string_view rest = AsText(body.subspan(1));
  switch (static_cast<uint8_t>(body.front())) {
    case Port2Request::kCode:
      return DecodePort2(rest);
    case Alive2Request::kCode:
      return DecodeAlive2(body);
    case NamesRequest::kCode:
      return NamesRequest{};
    case DumpRequest::kCode:
      return DumpRequest{};
    case KillRequest::kCode:
      return KillRequest{};
    case StopRequest::kCode:
      return DecodeStop(rest);
    default:
      return std::nullopt;
  }
}

size_t EncodeAlive2Reply(uint16_t highest_version, uint32_t creation, absl::Span<std::byte> out) {
  return EncodeAlive2(highest_version, kResultOk, creation,
                      static_cast<uint16_t>(creation % kShortCreations + 1), out);
}

size_t EncodeAlive2Refusal(uint16_t highest_version, absl::Span<std::byte> out) {
  return EncodeAlive2(highest_version, kResultRefused, kRefusedCreation,
                      static_cast<uint16_t>(kRefusedCreation), out);
}

size_t EncodePort2Reply(const NodeDescription& node, absl::Span<std::byte> out) {
  Writer writer(out);
  writer.U8(kPort2Reply);
  writer.U8(kResultOk);
  WriteDescription(node, writer);
  return writer.size();
}

size_t EncodePort2Unknown(absl::Span<std::byte> out) {
  Writer writer(out);
  writer.U8(kPort2Reply);
  writer.U8(kResultRefused);
  return writer.size();
}

void EncodePortHeader(uint16_t mapper_port, absl::Span<std::byte> out) {
  Writer(out).U32(mapper_port);
}

void AppendNamesLine(std::string_view name, uint16_t port, std::string& out) {
  out.append("name ");
  AppendName(name, out);
  out.append(" at port ");
  AppendNumber(port, out);
  out.push_back('\n');
}

void AppendDumpLineActive(std::string_view name, uint16_t port, int fd, std::string& out) {
  out.append("active name     <");
  AppendName(name, out);
  out.append("> at port ");
  AppendNumber(port, out);
  out.append(", fd = ");
  AppendNumber(fd, out);
  out.push_back('\n');
  out.push_back('\0');
}

void AppendDumpLineOrphaned(std::string_view name, uint16_t port, std::string& out) {
  out.append("orphaned name   <");
  AppendName(name, out);
  out.append("> at port ");
  AppendNumber(port, out);
  out.push_back('\n');
  out.push_back('\0');
}

void AppendDumpLineOld(std::string_view name, uint16_t port, int fd, std::string& out) {
  out.append("old/unused name <");
  AppendName(name, out);
  out.append(">, port = ");
  AppendNumber(port, out);
  out.append(", fd = ");
  AppendNumber(fd, out);
  out.append(" \n");
  out.push_back('\0');
}

size_t EncodeAlive2Request(const NodeDescription& node, absl::Span<std::byte> out) {
  Writer writer(out);
  writer.U16(static_cast<uint16_t>(1 + kDescriptionSizeMin + node.name.size() + node.extra.size()));
  writer.U8(Alive2Request::kCode);
  WriteDescription(node, writer);
  return writer.size();
}

size_t EncodePort2Request(std::string_view name, absl::Span<std::byte> out) {
  return EncodeNameRequest(Port2Request::kCode, name, out);
}
size_t EncodeNamesRequest(absl::Span<std::byte> out) {
  return EncodeNameRequest(NamesRequest::kCode, {}, out);
}
size_t EncodeDumpRequest(absl::Span<std::byte> out) {
  return EncodeNameRequest(DumpRequest::kCode, {}, out);
}
size_t EncodeKillRequest(absl::Span<std::byte> out) {
  return EncodeNameRequest(KillRequest::kCode, {}, out);
}
size_t EncodeStopRequest(std::string_view name, absl::Span<std::byte> out) {
  return EncodeNameRequest(StopRequest::kCode, name, out);
}

std::optional<size_t> Alive2ReplySize(std::byte first) {
  switch (static_cast<uint8_t>(first)) {
    case kAlive2ReplyLong:
      return kAlive2ReplyLongSize;
    case kAlive2ReplyShort:
      return kAlive2ReplyShortSize;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<Alive2Reply> DecodeAlive2Reply(absl::Span<const std::byte> reply) {
  if (reply.empty()) return absl::InvalidArgumentError("ALIVE2 reply is empty");
  const std::optional<size_t> size = Alive2ReplySize(reply.front());
  if (!size.has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "ALIVE2 reply starts with byte %d, not 'v' or 'y'", static_cast<int>(reply.front())));
  }
  if (reply.size() != *size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("ALIVE2 reply has %d bytes instead of %d", reply.size(), *size));
  }
  Reader reader(reply.subspan(1));
  Alive2Reply decoded;
  decoded.result = reader.U8();
  decoded.creation = *size == kAlive2ReplyLongSize ? reader.U32() : reader.U16();
  return decoded;
}

absl::StatusOr<Port2Reply> DecodePort2Reply(absl::Span<const std::byte> reply) {
  Reader reader(reply);
  const uint8_t kind = reader.U8();
  Port2Reply decoded;
  decoded.result = reader.U8();
  if (!reader.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "PORT2 reply has only %d of at least %d bytes", reply.size(), kPort2UnknownSize));
  }
  if (kind != kPort2Reply) {
    return absl::InvalidArgumentError(
        absl::StrFormat("PORT2 reply starts with byte %d, not 'w'", kind));
  }
  if (decoded.result == kResultOk) decoded.node = ReadDescription(reader);
  if (!reader.ok() || reader.left() != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("lengths in the PORT2 reply do not fit its %d bytes", reply.size()));
  }
  return decoded;
}

absl::StatusOr<NamesReply> DecodeNamesReply(absl::Span<const std::byte> reply) {
  constexpr std::string_view kBefore = "name ";
  constexpr std::string_view kBetween = " at port ";
  Reader reader(reply);
  NamesReply decoded;
  decoded.mapper_port = reader.U32();
  if (!reader.ok()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "NAMES reply has only %d of at least %d bytes", reply.size(), kPortHeaderSize));
  }
  std::string_view text = AsText(reply.subspan(kPortHeaderSize));
  while (!text.empty()) {
    const size_t offset = reply.size() - text.size();
    const auto error = [offset] {
      return absl::InvalidArgumentError(
          absl::StrFormat("NAMES reply has no line \"name NAME at port N\" at byte %d", offset));
    };
    if (!text.starts_with(kBefore)) return error();
    // A name may have newlines and kBetween in it, so it ends at the first place where a whole port
    // and the end of a line follow.
    NamesReply::Entry entry;
    size_t line_size = 0;
    for (size_t at = text.find(kBetween, kBefore.size());
         at != std::string_view::npos && line_size == 0; at = text.find(kBetween, at + 1)) {
      const size_t port_at = at + kBetween.size();
      const size_t port_size = ParsePortLine(text.substr(port_at), entry.port);
      if (port_size == 0) continue;
      entry.name = text.substr(kBefore.size(), at - kBefore.size());
      line_size = port_at + port_size;
    }
    if (line_size == 0) return error();
    decoded.entries.push_back(entry);
    text.remove_prefix(line_size);
  }
  return decoded;
}

}  // namespace evermap::protocol
