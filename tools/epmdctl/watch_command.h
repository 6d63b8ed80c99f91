// epmdctl watch: what happens to nodes and to the mapper, as it happens.
//
// Reads shared memory only, when the mapper has told of a change or has ended (view/news.h); where that is
// not told, each interval. The nodes are read only when the generation has changed. A registry that is not
// there yet,
// or not any more, is waited for; one whose place another file takes is opened anew.
#ifndef EVERMAP_TOOLS_EPMDCTL_WATCH_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_WATCH_COMMAND_H_

#include "absl/time/time.h"
#include "tools/epmdctl/current_registry.h"

namespace evermap {

inline constexpr double kWatchIntervalDefaultS = 0.1;
inline constexpr double kWatchIntervalMinS = 0.01;
inline constexpr double kWatchIntervalMaxS = 3600;

// Until SIGINT, SIGTERM, or nobody reads the output any more. Returns the exit code.
int Watch(CurrentRegistry& registry, absl::Duration interval, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_WATCH_COMMAND_H_
