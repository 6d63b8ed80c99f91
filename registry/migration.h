// Taking a registry from an older layout to this one, and back (INV-7).
//
// A migration never changes the old file, but for one word at its end. It builds the new file
// beside it, complete, and then changes names; each of these steps is one system call:
//
//   PATH.migrating   the new file, while it is built
//   PATH.previous    the old file, from when the new one is complete
//   PATH             the old file, then by rename(2) the new one
//
// So a process that dies at any instruction leaves under PATH either the old file as it was or the
// new one, complete. What else it leaves behind is removed by whoever opens the registry next.
// After the last step the old file's header says that it is superseded, for readers that have it
// open.
//
// REQUIRES, for all: the opening lock (writer_slot.h) is held, except for ForgetMigration(). A
// writer of the old file that lives must write nothing from before Migrate() on, until it has taken
// the migration back.
#ifndef EVERMAP_REGISTRY_MIGRATION_H_
#define EVERMAP_REGISTRY_MIGRATION_H_

#include <string>

#include "registry/segment.h"

namespace evermap {

// Replaces the file at `path`, which `old` maps and which has an older known layout. The new one
// has the same registrations in the same slots, with the same ids, creations and times, and the
// same capacity, key, counters and status; what a dead writer left half done is settled in it, and
// what is damaged beyond use is left out.
Problem Migrate(const std::string& path, const Segment& old);

// Puts the file that `own` maps back to `path`, if another one is there; the other one, of whatever
// layout, is then marked as superseded and without a name.
Problem TakeBackMigration(const std::string& path, Segment& own);

// Takes back a migration of the file at PATH that was not made final, from outside: false when
// there is no PATH.previous in a layout that this program knows. REQUIRES: nothing was acknowledged
// from the new file.
bool UndoMigration(const std::string& path);

// Removes PATH.previous, marked as superseded, unless it is the file that `own` maps.
void ForgetMigration(const std::string& path, const Segment& own);

// Removes what a migration, or taking one back, that was cut short has left beside the file at
// `path`, which `own` maps; but for PATH.previous, which somebody may want back.
void TidyAfterMigration(const std::string& path, Segment& own);

// For tests: when set, is called with 1, 2, ... before each of the steps of Migrate() and
// TakeBackMigration().
using MigrationHook = void (*)(int step);
void SetMigrationHookForTests(MigrationHook hook);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_MIGRATION_H_
