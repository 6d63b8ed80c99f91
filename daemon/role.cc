#include "daemon/role.h"

namespace evermap {

Role RoleOf(const Options& options, const Inheritance& inherited,
            const Surroundings& surroundings) {
  if (options.command != Command::kServe) return Role::kCommand;
  if (inherited.mapper.valid()) return Role::kKeeper;
  if (inherited.keeper.valid() || inherited.predecessor.valid()) return Role::kMapper;
  if (options.daemon && !surroundings.is_detached) return Role::kStarter;
  if (options.no_keeper) return Role::kMapper;
  return options.daemon || !surroundings.has_notify_socket ? Role::kKeeper : Role::kMapper;
}

}  // namespace evermap
