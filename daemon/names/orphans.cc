#include "daemon/names/orphans.h"

#include "absl/time/time.h"
#include "daemon/host/log.h"
#include "registry/counters.h"
#include "registry/reader.h"

namespace evermap {

Life LifeOf(const Registration& orphan, const absl::StatusOr<Listeners>& listeners) {
  if (orphan.listener_cookie == 0 || !listeners.ok()) return Life::kUnknown;
  return listeners->Has(orphan.listener_cookie) ? Life::kAlive : Life::kGone;
}

void Orphans::Judge() {
  if (orphans_.empty()) return;
  const absl::StatusOr<Listeners> listeners = ReadListeners();
  const uint64_t now_ns = registry_.view().SteadyNs();
  Registration found;
  std::erase_if(orphans_, [&](const RegistrationRef& orphan) {
    if (!registry_.ReadSlot(orphan.slot, found) || found.id != orphan.id ||
        found.state != RegistrationState::kOrphaned) {
      return true;
    }
    const Life life = LifeOf(found, listeners);
    const bool has_grace =
        now_ns < found.departure + static_cast<uint64_t>(absl::ToInt64Nanoseconds(grace_));
    if (life == Life::kAlive || (life == Life::kUnknown && has_grace)) return false;
    if (registry_.Unregister(orphan.slot, orphan.id)) {
      registry_.statistics(0).orphans_ended.fetch_add(1, std::memory_order_relaxed);
      Log(Severity::kNotice, "unregistered %s, which lost its connection: %s",
          Escaped(found.name()),
          life == Life::kGone ? "its node does not listen any more"
                              : "it did not come back in time (-orphan_grace)");
    }
    return true;
  });
}

}  // namespace evermap
