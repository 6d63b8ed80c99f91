// How many file descriptors this process may have (RLIMIT_NOFILE).
//
// Thread safety: to be called before there are other threads.
#ifndef EVERMAP_DAEMON_HOST_DESCRIPTOR_LIMIT_H_
#define EVERMAP_DAEMON_HOST_DESCRIPTOR_LIMIT_H_

#include <cstdint>

namespace evermap {

// The most that is asked for: a larger limit would only cost memory, since the workers have a table
// of that many connections.
inline constexpr uint32_t kDescriptorsMax = 1u << 20;

// Raises the soft limit to the hard one, but not above kDescriptorsMax, and returns what it is
// then, at most kDescriptorsMax.
uint32_t RaiseDescriptorLimit();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_DESCRIPTOR_LIMIT_H_
