// Addresses of peers: who is local, and which sources are one.
//
// Thread safety: functions are pure; SourceBound may be used by any number of threads.
#ifndef EVERMAP_DAEMON_HOST_ADDRESS_H_
#define EVERMAP_DAEMON_HOST_ADDRESS_H_

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evermap {

bool IsLoopback(const sockaddr_storage& address);
// Of a connected socket's other end; of no family (AF_UNSPEC) when that has reset the connection.
sockaddr_storage PeerAddress(int fd);
// Whether the peer of a connected socket is on this host: it comes from loopback or from the
// address that it connected to. False when that cannot be found out.
bool IsLocalPeer(int fd);
// "192.0.2.1", "2001:db8::1"; an IPv4 address in IPv6's clothes is shown as what it is.
std::string AddressText(const sockaddr_storage& address);

// An IP network: 192.0.2.0/24, 2001:db8::/32, or an address as the network of one. One of IPv4 in
// IPv6's clothes (::ffff:192.0.2.0/120) is what it is.
class Network {
 public:
  // Nothing when `text` is no network, or has bits beyond its prefix.
  static std::optional<Network> Parse(std::string_view text);
  bool Contains(const sockaddr_storage& address) const;
  bool operator==(const Network&) const = default;

 private:
  size_t size_ = 0;  // of an address, bytes
  size_t prefix_bits_ = 0;
  std::array<char, 16> bytes_ = {};
};

// Connections of one source that may wait for it, for its request or for it to take its reply.
// Loopback is not counted: all of a host's nodes share it, and the descriptors themselves are
// bounded (worker.h).
inline constexpr uint32_t kRequestsPerSourceMax = 1024;

// Counts the waiting connections of each source, an IPv4 address or an IPv6 /64, in a table of
// fixed size; sources that share an entry share its bound.
class SourceBound {
 public:
  using Entry = uint16_t;
  static constexpr Entry kNotCounted = 0xffff;

  // False when the source has as many as it may; nothing is counted then.
  bool Enter(const sockaddr_storage& source, Entry& entry);
  void Leave(Entry entry);

 private:
  static constexpr size_t kEntries = 16384;
  static_assert(kEntries < kNotCounted);
  std::array<std::atomic<uint32_t>, kEntries> open_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_ADDRESS_H_
