#include "daemon/role.h"

#include "daemon/custody/choose_store.h"

namespace evermap {

Role RoleOf(const Options& options, const Inheritance& inherited,
            const Surroundings& surroundings) {
  if (options.command != Command::kServe) return Role::kCommand;
  if (inherited.mapper.valid()) return Role::kKeeper;
  if (inherited.keeper.valid() || inherited.predecessor.valid()) return Role::kMapper;
  if (options.daemon && !surroundings.is_detached) return Role::kStarter;
  const HoldersAround around = {.has_notify_socket = surroundings.has_notify_socket,
                                .is_daemon = options.daemon};
  return NeedsKeeper(around, options.no_keeper) ? Role::kKeeper : Role::kMapper;
}

}  // namespace evermap
