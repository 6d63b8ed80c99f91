#include "daemon/custody/no_store.h"

#include <utility>

namespace evermap {

void NoStore::Put(OwnedFd fd) { const OwnedFd closed = std::move(fd); }

}  // namespace evermap
