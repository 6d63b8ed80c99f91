// A reload of the settings: what epmdctl reload asks for (registry/upgrade_request.h). Everything is read
// anew, and if nothing is wrong the workers pause while what they share is exchanged.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_RELOAD_H_
#define EVERMAP_DAEMON_MAPPER_RELOAD_H_

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

  // Perhaps a reload is asked for. It waits until the mapper is alone.
  void Ask() { is_asked_ = true; }
  // Does what is asked for, if it is time.
  void GoOn();

 private:
  // Logs what has changed. kUnavailable, kFailedPrecondition: why nothing has.
  absl::Status Do();

  Configuration& configuration_;
  const Registry& registry_;
  const Pausing pausing_;
  const std::function<void()> apply_;
  // At first for what an earlier mapper was asked for and has not done.
  bool is_asked_ = true;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_RELOAD_H_
