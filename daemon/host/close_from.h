// Closing every descriptor from a number on, on any kernel.
//
// Thread safety: uses only what signal-safety(7) allows. Other threads must not open descriptors
// meanwhile.
#ifndef EVERMAP_DAEMON_HOST_CLOSE_FROM_H_
#define EVERMAP_DAEMON_HOST_CLOSE_FROM_H_

namespace evermap {

// By close_range(2), which Linux has since 5.9; else those that /proc lists; without /proc each number
// below the limit of descriptors, a million at most.
void CloseFrom(unsigned first);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_CLOSE_FROM_H_
