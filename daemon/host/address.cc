#include "daemon/host/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace evermap {

AddressBytes BytesOf(const sockaddr_storage& address) {
  AddressBytes plain;
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

namespace {

bool IsLoopback(const AddressBytes& plain) {
  if (plain.size == 4) return plain.bytes[0] == 127;
  AddressBytes loopback;
  loopback.size = 16;
  loopback.bytes[15] = 1;
  return plain == loopback;
}

}  // namespace

bool IsLoopback(const sockaddr_storage& address) { return IsLoopback(BytesOf(address)); }

sockaddr_storage PeerAddress(int fd) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  // getpeername(2) fails when the peer has reset the connection; the family then stays AF_UNSPEC.
  getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size);
  return peer;
}

sockaddr_storage OwnAddress(int fd) {
  sockaddr_storage own = {};
  socklen_t size = sizeof(own);
  getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size);
  return own;
}

bool IsLocalPeer(int fd) {
  const AddressBytes from = BytesOf(PeerAddress(fd));
  if (from.size == 0) return false;
  if (IsLoopback(from)) return true;
  return BytesOf(OwnAddress(fd)) == from;
}

uint16_t PortOf(const sockaddr_storage& address) {
  switch (address.ss_family) {
    case AF_INET:
      return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
    case AF_INET6:
      return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
    default:
      return 0;
  }
}

std::array<char, 16> MappedAddress(const sockaddr_storage& address) {
  const AddressBytes bytes = BytesOf(address);
  if (bytes.size != 4) return bytes.bytes;
  std::array<char, 16> mapped = {};
  mapped[10] = mapped[11] = '\xff';
  std::copy_n(bytes.bytes.begin(), 4, mapped.begin() + 12);
  return mapped;
}

std::string AddressText(const sockaddr_storage& address) {
  const AddressBytes plain = BytesOf(address);
  char text[INET6_ADDRSTRLEN] = "an unknown address";
  if (plain.size != 0) {
    inet_ntop(plain.size == 4 ? AF_INET : AF_INET6, plain.bytes.data(), text, sizeof(text));
  }
  return text;
}

namespace {

// Whether the first `bits` bits of two addresses are the same.
bool HaveSamePrefix(const char* a, const char* b, size_t bits) {
  const size_t bytes = bits / 8;
  if (std::memcmp(a, b, bytes) != 0) return false;
  const auto mask = static_cast<unsigned>(0xff00 >> (bits % 8)) & 0xff;
  return bits % 8 == 0 ||
         ((static_cast<unsigned char>(a[bytes]) ^ static_cast<unsigned char>(b[bytes])) & mask) ==
             0;
}

}  // namespace

std::optional<Network> Network::Parse(std::string_view text) {
  constexpr size_t kMappedBits = 96;
  const size_t slash = std::min(text.find('/'), text.size());
  const std::string address(text.substr(0, slash));
  const bool is_v6 = address.find(':') != std::string::npos;
  std::array<char, 16> bytes = {};
  if (inet_pton(is_v6 ? AF_INET6 : AF_INET, address.c_str(), bytes.data()) != 1) {
    return std::nullopt;
  }
  Network network;
  network.size_ = is_v6 ? sizeof(in6_addr) : sizeof(in_addr);
  network.prefix_bits_ = network.size_ * 8;
  if (slash < text.size()) {
    const char* const end = text.data() + text.size();
    size_t bits = 0;
    const std::from_chars_result number = std::from_chars(text.data() + slash + 1, end, bits);
    if (number.ec != std::errc() || number.ptr != end || bits > network.prefix_bits_) {
      return std::nullopt;
    }
    network.prefix_bits_ = bits;
  }
  in6_addr v6;
  std::memcpy(&v6, bytes.data(), sizeof(v6));
  if (is_v6 && IN6_IS_ADDR_V4MAPPED(&v6) && network.prefix_bits_ >= kMappedBits) {
    network.size_ = sizeof(in_addr);
    network.prefix_bits_ -= kMappedBits;
    std::array<char, 16> plain = {};
    std::copy(bytes.begin() + 12, bytes.end(), plain.begin());
    bytes = plain;
  }
  // A bit beyond the prefix is probably a slip of the person who wrote the option.
  for (size_t bit = network.prefix_bits_; bit < network.size_ * 8; ++bit) {
    if ((static_cast<unsigned char>(bytes[bit / 8]) >> (7 - bit % 8) & 1u) != 0) {
      return std::nullopt;
    }
  }
  network.bytes_ = bytes;
  return network;
}

bool Network::Contains(const sockaddr_storage& address) const {
  const AddressBytes plain = BytesOf(address);
  return plain.size == size_ && HaveSamePrefix(plain.bytes.data(), bytes_.data(), prefix_bits_);
}

}  // namespace evermap
