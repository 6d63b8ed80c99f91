// IP addresses of peers: who is on this host, and who is in a network. Throughout, an IPv4-mapped
// IPv6 address (::ffff:a.b.c.d) counts as the IPv4 address that it stands for.
//
// Thread safety: all may be used from any thread.
#ifndef EVERMAP_DAEMON_HOST_ADDRESS_H_
#define EVERMAP_DAEMON_HOST_ADDRESS_H_

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evermap {

// The bytes of an address in network order: 4 of IPv4, 16 of IPv6, and none (size 0) of any other
// family. Bytes from `size` on are zero.
struct AddressBytes {
  size_t size = 0;
  std::array<char, 16> bytes = {};
  bool operator==(const AddressBytes&) const = default;
};
AddressBytes BytesOf(const sockaddr_storage& address);

// Whether the address is one of 127.0.0.0/8 or ::1.
bool IsLoopback(const sockaddr_storage& address);
// The address of a connected socket's other end; its family is AF_UNSPEC when the peer has reset
// the connection.
sockaddr_storage PeerAddress(int fd);
// The address that a socket is bound to; its family is AF_UNSPEC when the kernel does not tell.
sockaddr_storage OwnAddress(int fd);
// 0 for another family than IPv4 and IPv6.
uint16_t PortOf(const sockaddr_storage& address);
// Whether the peer of a connected socket is on this host: it comes from loopback, or from the
// address that it connected to. False when the kernel does not tell. Costs one or two system calls.
bool IsLocalPeer(int fd);
// The address as one of IPv6, that of IPv4 as ::ffff:192.0.2.1; all zero for another family.
std::array<char, 16> MappedAddress(const sockaddr_storage& address);
// "192.0.2.1", "2001:db8::1"; "an unknown address" for another family.
std::string AddressText(const sockaddr_storage& address);

// An IP network: 192.0.2.0/24, 2001:db8::/32, or a single address. ::ffff:192.0.2.0/120 is
// 192.0.2.0/24.
class Network {
 public:
  // Nothing when `text` is no network, or has bits beyond its prefix.
  static std::optional<Network> Parse(std::string_view text);
  bool Contains(const sockaddr_storage& address) const;
  bool operator==(const Network&) const = default;

 private:
  size_t size_ = 0;  // of an address in bytes
  size_t prefix_bits_ = 0;
  std::array<char, 16> bytes_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_ADDRESS_H_
