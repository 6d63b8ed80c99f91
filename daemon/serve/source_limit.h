// How many connections of one remote source may wait at a time, so that no single host can take all
// that a mapper has.
//
// Thread safety: a SourceLimit may be used by any number of threads.
#ifndef EVERMAP_DAEMON_SERVE_SOURCE_LIMIT_H_
#define EVERMAP_DAEMON_SERVE_SOURCE_LIMIT_H_

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace evermap {

// Connections that may wait for one source, either for its request or until it takes its reply.
// Loopback is not counted: all of a host's nodes share it, and the descriptors themselves are
// bounded (descriptor_budget.h).
inline constexpr uint32_t kRequestsPerSourceMax = 1024;

// Counts the waiting connections of each source, an IPv4 address or an IPv6 /64, in a table of
// fixed size; sources that share an entry share its bound.
class SourceLimit {
 public:
  using Entry = uint16_t;
  static constexpr Entry kNotCounted = 0xffff;

  // Counts a connection from `source`; `entry` is then what Leave() wants. False when the source
  // has as many as it may: nothing is counted then, and `entry` is kNotCounted. So it is for
  // loopback and for what is no IP address, with true.
  bool Enter(const sockaddr_storage& source, Entry& entry);
  // Undoes one Enter(). Nothing happens for kNotCounted.
  void Leave(Entry entry);

 private:
  static constexpr size_t kEntries = 16384;
  static_assert(kEntries < kNotCounted);
  std::array<std::atomic<uint32_t>, kEntries> open_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_SOURCE_LIMIT_H_
