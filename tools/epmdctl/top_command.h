// epmdctl top: what the mapper does now, drawn anew each interval. Reads shared memory only.
#ifndef EVERMAP_TOOLS_EPMDCTL_TOP_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_TOP_COMMAND_H_

#include "absl/time/time.h"
#include "tools/epmdctl/current_registry.h"

namespace evermap {

inline constexpr double kTopIntervalDefaultS = 1;
inline constexpr double kTopIntervalMinS = 0.1;
inline constexpr double kTopIntervalMaxS = 3600;

// On a terminal: until q, SIGINT or SIGTERM. With `once`, or where there is no terminal: one
// sample, after one interval. With `json`: one line for each interval, until a signal comes or
// nobody reads them any more; with `once` one. Returns the exit code.
int Top(CurrentRegistry& registry, absl::Duration interval, bool once, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_TOP_COMMAND_H_
