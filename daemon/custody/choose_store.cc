#include "daemon/custody/choose_store.h"

#include <cassert>
#include <cstdlib>
#include <utility>

#include "absl/status/statusor.h"
#include "daemon/custody/no_store.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/systemd_store.h"
#include "daemon/custody/words.h"
#include "daemon/host/log.h"
#include "daemon/host/own_program.h"

namespace evermap {

Holder HolderOf(const HoldersAround& around) {
  if (around.has_keeper) return Holder::kKeeper;
  if (around.has_notify_socket && !around.is_daemon) return Holder::kSystemd;
  return Holder::kNobody;
}

bool NeedsKeeper(const HoldersAround& around, bool wants_none) {
  return !wants_none && HolderOf(around) == Holder::kNobody;
}

ChosenStore ChooseStore(OwnedFd keeper_link, bool is_daemon) {
  const char* const address = getenv(variables::kNotifySocket);
  switch (HolderOf({.has_keeper = keeper_link.valid(),
                    .has_notify_socket = address != nullptr,
                    .is_daemon = is_daemon})) {
    case Holder::kKeeper: {
      auto store = std::make_unique<KeeperStore>(std::move(keeper_link), OwnProgram());
      KeeperStore* const keeper = store.get();
      return {.store = std::move(store), .keeper = keeper};
    }
    case Holder::kSystemd: {
      // Systemd holds only where its socket is named.
      assert(address != nullptr);
      absl::StatusOr<OwnedFd> link = ConnectToNotifySocket(address);
      if (link.ok()) return {.store = std::make_unique<SystemdStore>(*std::move(link))};
      Log(Severity::kWarning, "connections are not kept over a crash: %s", link.status().message());
      break;
    }
    case Holder::kNobody:
      break;
  }
  return {.store = std::make_unique<NoStore>()};
}

}  // namespace evermap
