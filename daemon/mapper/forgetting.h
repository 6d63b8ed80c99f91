// Forgetting: ends one registration because an operator has asked for it (epmdctl forget), and says
// whose it was.
//
// Thread safety: the main thread's.
#ifndef EVERMAP_DAEMON_MAPPER_FORGETTING_H_
#define EVERMAP_DAEMON_MAPPER_FORGETTING_H_

#include "daemon/custody/custody.h"
#include "registry/registry.h"

namespace evermap {

// Takes the request that lies beside the registry (registry/forget_request.h), if there is one. The
// connection of the registration, if it has one, is shut down; its worker then finds it closed.
void ForgetAsAsked(Registry& registry, const Custody& custody);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_FORGETTING_H_
