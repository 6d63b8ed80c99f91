#include "daemon/systemd/bus_message.h"

#include <bit>
#include <cassert>
#include <cstring>
#include <limits>

namespace evermap {
namespace {

constexpr char kByteOrder = std::endian::native == std::endian::little ? 'l' : 'B';
constexpr uint8_t kProtocolVersion = 1;

enum Field : uint8_t {
  kPath = 1,
  kInterface = 2,
  kMember = 3,
  kErrorName = 4,
  kReplySerial = 5,
  kDestination = 6,
  kSignature = 8,
};

size_t Aligned(size_t size, size_t alignment) {
  return (size + alignment - 1) / alignment * alignment;
}

// One of the fields of a message's head, each a structure of a byte and a variant.
void WriteField(BusWriter& writer, Field field, std::string_view type, std::string_view value) {
  writer.Align(kBusStructAlignment);
  writer.Byte(field);
  writer.Signature(type);
  if (type == "g") {
    writer.Signature(value);
  } else {
    writer.String(value);
  }
}

// Of a field that this does not know it cannot tell where it ends, so types that no field has by
// the specification make the message invalid.
void ReadField(BusReader& reader, BusMessage& message) {
  reader.Align(kBusStructAlignment);
  const uint8_t field = reader.Byte();
  const std::string_view type = reader.Signature();
  if (type == "u") {
    const uint32_t number = reader.Uint32();
    if (field == kReplySerial) message.reply_serial = number;
  } else if (type == "g") {
    const std::string_view signature = reader.Signature();
    if (field == kSignature) message.signature = signature;
  } else if (type == "s" || type == "o") {
    const std::string_view text = reader.String();
    if (field == kErrorName) message.error_name = text;
  } else {
    reader.Fail();
  }
}

}  // namespace

void BusWriter::Align(size_t alignment) { bytes_.resize(Aligned(bytes_.size(), alignment)); }

void BusWriter::Byte(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }

void BusWriter::Uint32(uint32_t value) {
  Align(sizeof(value));
  bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void BusWriter::String(std::string_view text) {
  Uint32(static_cast<uint32_t>(text.size()));
  bytes_.append(text);
  bytes_.push_back('\0');
}

void BusWriter::Signature(std::string_view signature) {
  assert(signature.size() <= std::numeric_limits<uint8_t>::max());
  Byte(static_cast<uint8_t>(signature.size()));
  bytes_.append(signature);
  bytes_.push_back('\0');
}

BusWriter::Array BusWriter::BeginArray(size_t element_alignment) {
  Uint32(0);
  const size_t length_at = bytes_.size() - sizeof(uint32_t);
  // The length does not count what aligns the first element, which is there even without elements.
  Align(element_alignment);
  return {.length_at = length_at, .elements_at = bytes_.size()};
}

void BusWriter::EndArray(const Array& array) {
  assert(array.length_at < array.elements_at && array.elements_at <= bytes_.size());
  const auto length = static_cast<uint32_t>(bytes_.size() - array.elements_at);
  std::memcpy(bytes_.data() + array.length_at, &length, sizeof(length));
}

std::string_view BusReader::Take(size_t size) {
  if (!is_ok_ || size > bytes_.size() - position_) {
    Fail();
    return {};
  }
  position_ += size;
  return bytes_.substr(position_ - size, size);
}

void BusReader::Align(size_t alignment) { Take(Aligned(position_, alignment) - position_); }

uint8_t BusReader::Byte() {
  const std::string_view byte = Take(1);
  return byte.empty() ? uint8_t{0} : static_cast<uint8_t>(byte[0]);
}

uint32_t BusReader::Uint32() {
  uint32_t value = 0;
  Align(sizeof(value));
  const std::string_view bytes = Take(sizeof(value));
  if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

uint64_t BusReader::Uint64() {
  uint64_t value = 0;
  Align(sizeof(value));
  const std::string_view bytes = Take(sizeof(value));
  if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

std::string_view BusReader::String() {
  const size_t size = Uint32();
  const std::string_view text = Take(size);
  if (Byte() != 0) Fail();
  return is_ok_ ? text : std::string_view();
}

std::string_view BusReader::Signature() {
  const size_t size = Byte();
  const std::string_view text = Take(size);
  if (Byte() != 0) Fail();
  return is_ok_ ? text : std::string_view();
}

size_t BusReader::BeginArray(size_t element_alignment) {
  const size_t length = Uint32();
  Align(element_alignment);
  if (!is_ok_ || length > bytes_.size() - position_) {
    Fail();
    return position_;
  }
  return position_ + length;
}

std::string EncodeCall(const BusCall& call, uint32_t serial) {
  assert(serial != 0 && call.signature.empty() == call.arguments.empty());
  BusWriter writer;
  writer.Byte(static_cast<uint8_t>(kByteOrder));
  writer.Byte(static_cast<uint8_t>(BusMessageType::kCall));
  writer.Byte(0);  // no flags: a reply is expected
  writer.Byte(kProtocolVersion);
  writer.Uint32(static_cast<uint32_t>(call.arguments.size()));
  writer.Uint32(serial);
  const BusWriter::Array fields = writer.BeginArray(kBusStructAlignment);
  WriteField(writer, kPath, "o", call.path);
  WriteField(writer, kInterface, "s", call.interface);
  WriteField(writer, kMember, "s", call.member);
  WriteField(writer, kDestination, "s", call.destination);
  if (!call.signature.empty()) WriteField(writer, kSignature, "g", call.signature);
  writer.EndArray(fields);
  writer.Align(kBusStructAlignment);
  std::string bytes = writer.bytes();
  bytes.append(call.arguments);
  return bytes;
}

std::optional<size_t> BusMessageSize(std::string_view prefix) {
  assert(prefix.size() == kBusPrefixSize);
  BusReader reader(prefix);
  if (reader.Byte() != static_cast<uint8_t>(kByteOrder)) return std::nullopt;
  reader.Byte();  // type
  reader.Byte();  // flags
  if (reader.Byte() != kProtocolVersion) return std::nullopt;
  const size_t body_size = reader.Uint32();
  reader.Uint32();  // serial
  const size_t fields_size = reader.Uint32();
  if (body_size > kBusMessageMax || fields_size > kBusMessageMax) return std::nullopt;
  const size_t size = kBusPrefixSize + Aligned(fields_size, kBusStructAlignment) + body_size;
  if (size > kBusMessageMax) return std::nullopt;
  return size;
}

std::optional<BusMessage> DecodeBusMessage(std::string_view bytes) {
  if (bytes.size() < kBusPrefixSize ||
      BusMessageSize(bytes.substr(0, kBusPrefixSize)) != bytes.size()) {
    return std::nullopt;
  }
  BusReader reader(bytes);
  reader.Byte();  // byte order
  BusMessage message;
  message.type = static_cast<BusMessageType>(reader.Byte());
  reader.Byte();    // flags
  reader.Byte();    // version
  reader.Uint32();  // body's size
  reader.Uint32();  // serial
  const size_t fields_end = reader.BeginArray(kBusStructAlignment);
  while (reader.ok() && reader.position() < fields_end) ReadField(reader, message);
  if (reader.position() > fields_end) reader.Fail();
  reader.Align(kBusStructAlignment);
  if (!reader.ok()) return std::nullopt;
  message.body = bytes.substr(reader.position());
  return message;
}

}  // namespace evermap
