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

// The size that MakeRoomForDescriptors() gives to the kernel's table of this process's descriptors:
// as many as systemd can keep. It takes 8 bytes for each of them, of the kernel's memory.
inline constexpr uint32_t kDescriptorRoom = 65'536;

// Makes that table as large as it will have to be, or as the limit allows. Otherwise it grows whenever
// it is full, to the double; and where there are threads it then waits until no other core reads the old
// one (RCU), some milliseconds in which no thread gets a descriptor, and nothing is accepted. A mapper
// that took 9,000 nodes over from a killed one stood still eight times (Linux 6.18).
void MakeRoomForDescriptors();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_DESCRIPTOR_LIMIT_H_
