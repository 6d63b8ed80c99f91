#include "tools/epmdctl/host/handshake.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/wire/protocol.h"

namespace evermap {
namespace {

// Flags without which nodes of OTP 25 and later do not answer: EXTENDED_REFERENCES, FUN_TAGS,
// NEW_FUN_TAGS, EXTENDED_PIDS_PORTS, EXPORT_PTR_TAG, BIT_BINARIES, NEW_FLOATS, UTF8_ATOMS, MAP_TAG,
// BIG_CREATION, HANDSHAKE_23, UNLINK_ID, V4_NC. Without PUBLISHED: as a hidden node.
constexpr uint64_t kFlags = 0x4 | 0x10 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x20000 |
                            0x40000 | 0x1000000 | 0x2000000 | 0x400000000;
constexpr uint16_t kOldVersion = 5;
constexpr size_t kSizeSize = 2;
// Largest size of a message of the handshake; the longest one is a challenge with a name.
constexpr size_t kMessageSizeMax = 4096;
constexpr size_t kChallengeHead = 1 + 8 + 4 + 4 + 2;
constexpr size_t kOldChallengeHead = 1 + 2 + 4 + 4;
// The first bytes of a TLS record: an alert or a handshake, of version 3.x.
constexpr char kTlsAlert = 0x15;
constexpr char kTlsHandshake = 0x16;
constexpr char kTlsVersion = 0x03;

void AppendNumber(uint64_t number, int bytes, std::string& out) {
  while (bytes-- > 0) out.push_back(static_cast<char>(number >> (8 * bytes)));
}

size_t NumberAt(std::string_view bytes, size_t at) {
  return size_t{static_cast<unsigned char>(bytes[at])} << 8 |
         static_cast<unsigned char>(bytes[at + 1]);
}

// Receives one message, without its size. kDataLoss: the connection was closed before its end.
absl::StatusOr<std::string> ReceiveMessage(int fd, const Waiter& waiter, bool& is_tls) {
  std::string bytes;
  absl::Status status = ReceiveUpTo(fd, kSizeSize, waiter, bytes);
  if (!status.ok()) return status;
  const absl::Status closed = absl::DataLossError(
      absl::StrCat(waiter.who(), ": it closed the connection instead of answering"));
  if (bytes.size() < kSizeSize) return closed;
  is_tls = (bytes[0] == kTlsAlert || bytes[0] == kTlsHandshake) && bytes[1] == kTlsVersion;
  if (is_tls) return std::string();
  const size_t size = NumberAt(bytes, 0);
  if (size == 0 || size > kMessageSizeMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(waiter.who(), ": what it answers is not the Erlang distribution protocol"));
  }
  status = ReceiveUpTo(fd, kSizeSize + size, waiter, bytes);
  if (!status.ok()) return status;
  if (bytes.size() < kSizeSize + size) return closed;
  return bytes.substr(kSizeSize);
}

}  // namespace

std::string EncodeSendName(std::string_view name, uint16_t highest_version) {
  std::string message;
  if (highest_version >= protocol::kVersionWithLongCreation) {
    message = "N";
    AppendNumber(kFlags, 8, message);
    AppendNumber(1, 4, message);  // creation: any but 0
    AppendNumber(name.size(), 2, message);
  } else {
    message = "n";
    AppendNumber(kOldVersion, 2, message);
    AppendNumber(kFlags, 4, message);
  }
  message += name;
  std::string framed;
  AppendNumber(message.size(), kSizeSize, framed);
  return framed + message;
}

std::string NameInChallenge(std::string_view message) {
  if (message.size() > kChallengeHead && message[0] == 'N') {
    const size_t size = NumberAt(message, kChallengeHead - 2);
    return std::string(message.substr(kChallengeHead, size));
  }
  if (message.size() > kOldChallengeHead && message[0] == 'n') {
    return std::string(message.substr(kOldChallengeHead));
  }
  return "";
}

absl::StatusOr<NodeAnswer> GreetNode(const TcpConnection& connection, std::string_view own_name,
                                     uint16_t highest_version, const Waiter& waiter) {
  const std::string greeting = EncodeSendName(own_name, highest_version);
  const absl::Status sent =
      SendAll(connection.fd(),
              {reinterpret_cast<const std::byte*>(greeting.data()), greeting.size()}, waiter);
  if (!sent.ok()) return sent;
  NodeAnswer answer;
  const absl::StatusOr<std::string> status = ReceiveMessage(connection.fd(), waiter, answer.is_tls);
  if (!status.ok()) return status.status();
  if (answer.is_tls) return answer;
  if (status->front() != 's') {
    return absl::InvalidArgumentError(
        absl::StrCat(waiter.who(), ": what it answers is not the Erlang distribution protocol"));
  }
  answer.status = status->substr(1);
  if (answer.status != "ok" && answer.status != "ok_simultaneous") return answer;
  const absl::StatusOr<std::string> challenge =
      ReceiveMessage(connection.fd(), waiter, answer.is_tls);
  if (challenge.ok()) answer.node_name = NameInChallenge(*challenge);
  return answer;
}

}  // namespace evermap
