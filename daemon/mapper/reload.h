// A reload of the settings: what epmdctl reload asks for (registry/upgrade_request.h). Everything is read
// anew, and if nothing is wrong the workers pause while what they share is exchanged.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_RELOAD_H_
#define EVERMAP_DAEMON_MAPPER_RELOAD_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "daemon/mapper/configuration.h"
#include "daemon/mapper/pausing.h"
#include "registry/registry.h"

namespace evermap {

class Reload {
 public:
  // `apply` is called while the workers pause, when the configuration is the new one. All of it
  // outlives this.
  Reload(Configuration& configuration, const Registry& registry, Pausing pausing,
         std::function<void()> apply);

  // After a signal: whether it was a reload that was asked for, by a request that was not seen before.
  // It waits until the mapper is alone. The request stays where it is until then, so that it is a
  // successor's when this mapper leaves.
  bool IsAsked();
  // Does what was asked for, if it is time.
  void GoOn();

 private:
  // Logs what has changed. kUnavailable, kFailedPrecondition: why nothing has.
  absl::Status Do();

  Configuration& configuration_;
  const Registry& registry_;
  const Pausing pausing_;
  const std::function<void()> apply_;
  // Of the request that waits; 0: none does.
  uint64_t asked_ = 0;
  // Whether it was looked for what a predecessor was asked for and has not done.
  bool has_looked_ = false;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_RELOAD_H_
