// Publication: looks whether readers still find the registry, and puts it back when its file, its lock
// file or their directory has vanished or something else is there (registry/mending.h).
//
// Everything else goes on meanwhile: what is registered is in a file that needs no name.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_PUBLICATION_H_
#define EVERMAP_DAEMON_MAPPER_PUBLICATION_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "daemon/command/options.h"
#include "daemon/custody/store.h"
#include "daemon/host/timers.h"
#include "daemon/mapper/pausing.h"
#include "registry/claim.h"

namespace evermap {

class Publication {
 public:
  // How often is looked.
  static constexpr int64_t kPauseMs = 1000;
  // The longest time between two attempts. Each attempt that fails doubles it.
  static constexpr int64_t kPauseMaxMs = 64'000;

  // All of it outlives this. `on_mended` is called when the registry was put back.
  Publication(const Options& options, Claim& claim, Store& store, Timers& timers, Pausing host,
              std::function<void()> on_mended);

  // From here on looks at the path.
  void Watch();

 private:
  void Look();
  absl::Status Mend();
  absl::Status MendAt(const std::string& path);
  std::vector<std::string> Paths() const;

  const Options& options_;
  Claim& claim_;
  Store& store_;
  const Pausing host_;
  const std::function<void()> on_mended_;
  Timer look_;
  bool is_lost_ = false;      // and that has been said
  bool has_failed_ = false;   // and that has been said
  int64_t next_mend_ms_ = 0;  // MonotonicCoarseMs(); no attempt before
  int64_t mend_pause_ms_ = kPauseMs;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_PUBLICATION_H_
