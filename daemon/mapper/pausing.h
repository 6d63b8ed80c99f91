// How a unit of the main thread brings the workers to rest for a moment, to change what they read.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_PAUSING_H_
#define EVERMAP_DAEMON_MAPPER_PAUSING_H_

#include <functional>

namespace evermap {

struct Pausing {
  // Whether no other process shares the registry, as in an upgrade, and nothing is under way that
  // must not be disturbed.
  std::function<bool()> is_alone;
  // Stops the workers; false when they do not stop. To be followed by resume() in any case.
  std::function<bool()> pause;
  std::function<void()> resume;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_PAUSING_H_
