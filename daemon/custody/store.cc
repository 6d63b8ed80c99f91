#include "daemon/custody/store.h"

#include "absl/time/clock.h"
#include "daemon/host/steady_time.h"

namespace evermap {
namespace {

// How long a full store is left alone before it is tried again.
constexpr absl::Duration kFlushPause = absl::Milliseconds(5);

}  // namespace

bool Store::FlushPatiently(absl::Time deadline) {
  while (Flush()) {
    if (waiting() == 0 || SteadyNow() >= deadline) return true;
    absl::SleepFor(kFlushPause);
  }
  return false;
}

}  // namespace evermap
