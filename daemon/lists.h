// The texts that NAMES and DUMP are answered with. They grow with the number of names, unlike all
// other replies.
#ifndef EVERMAP_DAEMON_LISTS_H_
#define EVERMAP_DAEMON_LISTS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "daemon/custody.h"
#include "registry/registry.h"

namespace evermap {

// Forgotten names that DUMP shows, the latest.
inline constexpr size_t kDumpOldMax = 1000;

// The whole reply to NAMES of a mapper at `port`, newest node first.
std::string MakeNamesText(const Registry& registry, uint16_t port);
// Likewise to DUMP; descriptors are those in custody.
std::string MakeDumpText(const Registry& registry, const Custody& custody, uint16_t port);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LISTS_H_
