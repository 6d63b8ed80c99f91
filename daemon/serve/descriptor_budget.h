// Who may have how many of the process's file descriptors, which are the scarcest thing a mapper
// has.
//
// No counter is shared for that. The kernel always gives the lowest free number, so a number that
// is close to the limit says that the table is full. Then
//   - a worker ends the oldest of its unfinished requests, two for each new connection
//     (kEvictionsPerConnection), unless these have only just come (eviction.h), and
//   - no node is registered, since Custody::connections_max lies kDescriptorsForRequests below the
//     limit,
// so there is always a descriptor for a lookup.
#ifndef EVERMAP_DAEMON_SERVE_DESCRIPTOR_BUDGET_H_
#define EVERMAP_DAEMON_SERVE_DESCRIPTOR_BUDGET_H_

#include <cstdint>

namespace evermap {

// Descriptors that nodes leave to requests.
inline constexpr uint32_t kDescriptorsForRequests = 64;
// Descriptors of these that waiting requests leave free, so that accepting never fails for lack of
// one.
inline constexpr uint32_t kDescriptorsSpare = 16;

// Whether the number `fd`, which the kernel has just given out, says that no more than the spare
// descriptors are left. `descriptors_max` is RLIMIT_NOFILE.
inline bool IsDescriptorTableFull(int fd, uint32_t descriptors_max) {
  return static_cast<uint32_t>(fd) + kDescriptorsSpare >= descriptors_max;
}

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_DESCRIPTOR_BUDGET_H_
