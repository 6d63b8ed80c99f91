// How epmdctl asks mappers over TCP.
#ifndef EVERMAP_TOOLS_EPMDCTL_REMOTE_H_
#define EVERMAP_TOOLS_EPMDCTL_REMOTE_H_

#include "absl/time/time.h"

namespace evermap {

// Longest time for a whole request: to connect, to ask and to receive the answer.
inline constexpr absl::Duration kRemoteTimeout = absl::Seconds(5);
inline constexpr char kThisHost[] = "127.0.0.1";

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_REMOTE_H_
