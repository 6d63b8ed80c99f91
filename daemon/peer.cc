#include "daemon/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <string_view>

#include "absl/hash/hash.h"

namespace evermap {
namespace {

// An address of either family, IPv4 in its own form.
struct Plain {
  size_t size = 0;  // 4, 16, or 0 for another family
  std::array<char, 16> bytes = {};
  bool operator==(const Plain&) const = default;
};

Plain PlainAddress(const sockaddr_storage& address) {
  Plain plain;
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    plain.size = sizeof(v4.sin_addr);
    std::memcpy(plain.bytes.data(), &v4.sin_addr, plain.size);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      plain.size = 4;
      std::memcpy(plain.bytes.data(), v6.sin6_addr.s6_addr + 12, plain.size);
    } else {
      plain.size = sizeof(v6.sin6_addr);
      std::memcpy(plain.bytes.data(), &v6.sin6_addr, plain.size);
    }
  }
  return plain;
}

bool IsLoopback(const Plain& plain) {
  if (plain.size == 4) return plain.bytes[0] == 127;
  Plain loopback;
  loopback.size = 16;
  loopback.bytes[15] = 1;
  return plain == loopback;
}

}  // namespace

bool IsLoopback(const sockaddr_storage& address) { return IsLoopback(PlainAddress(address)); }

bool IsLocalPeer(int fd) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return false;
  const Plain from = PlainAddress(peer);
  if (from.size == 0) return false;
  if (IsLoopback(from)) return true;
  sockaddr_storage own = {};
  size = sizeof(own);
  return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
         PlainAddress(own) == from;
}

std::string AddressText(const sockaddr_storage& address) {
  const Plain plain = PlainAddress(address);
  char text[INET6_ADDRSTRLEN] = "an unknown address";
  if (plain.size != 0) {
    inet_ntop(plain.size == 4 ? AF_INET : AF_INET6, plain.bytes.data(), text, sizeof(text));
  }
  return text;
}

bool SourceBound::Enter(const sockaddr_storage& source, Entry& entry) {
  const Plain plain = PlainAddress(source);
  entry = kNotCounted;
  if (plain.size == 0 || IsLoopback(plain)) return true;
  // absl::Hash is seeded anew for each process, so nobody can choose whom to share with.
  const std::string_view network(plain.bytes.data(), plain.size == 4 ? 4 : 8);
  const auto chosen = static_cast<Entry>(absl::Hash<std::string_view>()(network) % kEntries);
  if (open_[chosen].fetch_add(1, std::memory_order_relaxed) >= kRequestsPerSourceMax) {
    open_[chosen].fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  entry = chosen;
  return true;
}

void SourceBound::Leave(Entry entry) {
  if (entry != kNotCounted) open_[entry].fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace evermap
