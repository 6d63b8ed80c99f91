// The clock of what is decided: how long something is waited for, and when it is given up.
#ifndef EVERMAP_DAEMON_HOST_STEADY_TIME_H_
#define EVERMAP_DAEMON_HOST_STEADY_TIME_H_

#include "absl/time/time.h"
#include "registry/base/clock.h"

namespace evermap {

// CLOCK_MONOTONIC as a time, of which only differences mean something. Not the time of day:
// when somebody sets that back by an hour, a deadline of it comes an hour later.
inline absl::Time SteadyNow() { return absl::FromUnixNanos(MonotonicNs()); }

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_STEADY_TIME_H_
