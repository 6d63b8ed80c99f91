// Messages of D-Bus as bytes, as far as a client needs them that calls methods of systemd.
//
//   BusWriter arguments;
//   arguments.String("epmd.service");
//   const std::string bytes = EncodeCall({.destination = "org.freedesktop.systemd1", ...,
//                                         .signature = "s", .arguments = arguments.bytes()}, 1);
//   ... if (const auto message = DecodeBusMessage(received)) BusReader(message->body).String();
//
// Values lie in this machine's byte order, as both ends are on one machine, each aligned to its
// size: a string is its length as uint32, its bytes and a zero; an array the length of its elements
// in bytes as uint32, and these; a structure is aligned to 8; a variant is a signature (its length
// as one byte, its bytes and a zero) and a value of that type. The source of every number here is
// the D-Bus specification, "Message Protocol".
//
// Thread safety: values without shared state.
#ifndef EVERMAP_DAEMON_SYSTEMD_BUS_MESSAGE_H_
#define EVERMAP_DAEMON_SYSTEMD_BUS_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evermap {

// How much of a message says how long it is.
inline constexpr size_t kBusPrefixSize = 16;
// A longer message is refused: it would be none that a method called here replies with.
inline constexpr size_t kBusMessageMax = size_t{1} << 20;
// The alignment of structures, of the entries of a(sv), and of a message's body.
inline constexpr size_t kBusStructAlignment = 8;

// Appends values to a sequence that begins at a multiple of 8 bytes.
class BusWriter {
 public:
  void Align(size_t alignment);
  void Byte(uint8_t value);
  void Uint32(uint32_t value);
  // Also an object path.
  void String(std::string_view text);
  void Signature(std::string_view signature);
  // What is written between these are the elements of an array. EndArray() gets what BeginArray()
  // has returned.
  struct Array {
    size_t length_at;
    size_t elements_at;
  };
  Array BeginArray(size_t element_alignment);
  void EndArray(const Array& array);

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Takes values from a sequence that begins at a multiple of 8 bytes and that must live as long as
// what is taken from it. A value that is not there whole is 0 or empty, and ok() is false from then
// on.
class BusReader {
 public:
  explicit BusReader(std::string_view bytes) : bytes_(bytes) {}

  void Align(size_t alignment);
  uint8_t Byte();
  uint32_t Uint32();
  uint64_t Uint64();
  std::string_view String();
  std::string_view Signature();
  // Where the elements of the array that lies here end, as a position().
  size_t BeginArray(size_t element_alignment);

  size_t position() const { return position_; }
  bool ok() const { return is_ok_; }
  // Nothing more is taken.
  void Fail() { is_ok_ = false; }

 private:
  // The next `size` bytes; empty when there are fewer.
  std::string_view Take(size_t size);

  std::string_view bytes_;
  size_t position_ = 0;
  bool is_ok_ = true;
};

// A call of a method; what the views refer to must live as long as it.
struct BusCall {
  std::string_view destination;
  std::string_view path;
  std::string_view interface;
  std::string_view member;
  std::string_view signature;  // of the arguments; empty: there are none
  std::string_view arguments;
};

// Its bytes. `serial`, which is not 0, is what the reply names.
std::string EncodeCall(const BusCall& call, uint32_t serial);

enum class BusMessageType : uint8_t { kCall = 1, kReply = 2, kError = 3, kSignal = 4 };

struct BusMessage {
  BusMessageType type = BusMessageType::kCall;
  uint32_t reply_serial = 0;  // of the call that it replies to; 0: none
  std::string error_name;
  std::string signature;
  std::string body;
};

// The size of a message that begins with these kBusPrefixSize bytes. Nothing when it is not one of
// this machine's byte order, or longer than kBusMessageMax.
std::optional<size_t> BusMessageSize(std::string_view prefix);

// A whole message. Nothing when its bytes are not valid.
std::optional<BusMessage> DecodeBusMessage(std::string_view bytes);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SYSTEMD_BUS_MESSAGE_H_
