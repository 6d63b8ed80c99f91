// How many file descriptors this process may have.
#ifndef EVERMAP_DAEMON_HOST_DESCRIPTOR_LIMIT_H_
#define EVERMAP_DAEMON_HOST_DESCRIPTOR_LIMIT_H_

#include <cstdint>

namespace evermap {

// Above this a larger limit only costs memory.
inline constexpr uint32_t kDescriptorsMax = 1u << 20;

// Raises the soft limit to the hard one, or to kDescriptorsMax, and returns what it is then.
uint32_t RaiseDescriptorLimit();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_DESCRIPTOR_LIMIT_H_
