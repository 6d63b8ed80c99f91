#include "daemon/mapper/forgetting.h"

#include "daemon/host/log.h"
#include "daemon/host/user.h"
#include "registry/counters.h"
#include "registry/forget_request.h"

namespace evermap {

void ForgetAsAsked(Registry& registry, const Custody& custody) {
  const ForgetRequest request = TakeForgetRequest(registry.path());
  if (!request.complaint.empty()) Log(Severity::kWarning, "%s", request.complaint);
  const RegistrationRef wanted = request.registration;
  Registration node;
  if (wanted.id == 0 || !registry.ReadSlot(wanted.slot, node) || node.id != wanted.id ||
      node.state == RegistrationState::kRemembered || !registry.Unregister(node.slot, node.id)) {
    return;
  }
  const bool is_orphan = node.state == RegistrationState::kOrphaned;
  WorkerStatistics& statistics = registry.statistics(0);
  Count(is_orphan ? statistics.orphans_ended : statistics.unregistered);
  custody.Shutdown(node);
  Log(Severity::kNotice,
      "node %s is unregistered: %s has asked for it (epmdctl forget); it was %s of %s, at port %d",
      Escaped(node.name()), UserText(request.asking_uid),
      is_orphan ? "an orphan" : "the connected node", UserText(node.owner_uid), node.port);
}

}  // namespace evermap
