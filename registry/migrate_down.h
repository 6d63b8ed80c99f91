// The way back: a copy of a registry in layout version 2, for release 0.1.0, which can read nothing
// newer.
#ifndef EVERMAP_REGISTRY_MIGRATE_DOWN_H_
#define EVERMAP_REGISTRY_MIGRATE_DOWN_H_

#include <string>

#include "registry/problem.h"

namespace evermap {

// Replaces the file at `path`, which has the newest layout, by one in layout version 2 with the same
// registrations in the same slots, with the same ids, creations and times, and the same capacity, key,
// counters and status. The replaced one is PATH.previous, from which RollBackMigration() (migration.h)
// puts it back. A process that dies in the middle leaves what one leaves that dies in Migrate().
// Takes the opening lock for the time (kBusy when it cannot be had).
// REQUIRES: nobody changes the registry from before the call on, until it has been put back.
Problem MigrateDown(const std::string& path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_MIGRATE_DOWN_H_
