// Taking a registry from a former layout to the newest one, and back (INV-7).
//
// A migration reads the old file through the description of its layout (former_segment.h) and never
// changes it, except for one word at the end. It builds the new file beside the old one, complete,
// and then changes names; each of these steps is one system call:
//
//   PATH.migrating   the new file, while it is built
//   PATH.previous    the old file, from when the new one is complete
//   PATH             the old file, then by rename(2) the new one
//
// So a process that dies at any instruction leaves under PATH either the old file as it was or the
// new one, complete. What else it leaves behind is removed by the process that opens the registry
// next. After the last step the old file's header says that it is superseded, for readers that have it
// open.
//
// REQUIRES, for all: the opening lock (writer_place.h) is held, except for FinishMigration(). A
// living writer of the old file must write nothing from before Migrate() on, until it has rolled the
// migration back.
#ifndef EVERMAP_REGISTRY_MIGRATION_H_
#define EVERMAP_REGISTRY_MIGRATION_H_

#include <array>
#include <memory>
#include <string>

#include "registry/base/file_identity.h"
#include "registry/owner.h"
#include "registry/problem.h"
#include "registry/segment.h"

namespace evermap {

// Replaces the file at `path`, which `old` maps, by one in the newest layout. The new one has the
// same registrations in the same slots, with the same ids, creations and times, and the same
// capacity, key, counters and status; what a dead writer left half done is settled in it, and what
// is damaged beyond use is left out. REQUIRES: `old` has a former layout.
Problem Migrate(const std::string& path, const Segment& old);

// The last steps of that, which also other copies take (migrate_down.h): the file at PATH.migrating, which
// is complete, takes the place of the one at PATH.
Problem PublishMigrated(const std::string& path);

// Gives a registry that has lost its path a file there again, which belongs to `owner`: a copy of `old`
// as it is, or, of a former layout, what Migrate() makes of it. There is nothing to roll back to. `old`
// is then superseded. kForeign, and null, when there is a registry of another owner at the path.
// REQUIRES: `old` is mapped for writing, and nobody writes to it.
std::unique_ptr<Segment> Republish(const std::string& path, const RegistryOwner& owner,
                                   Segment& old, Problem& problem);

// The lock files of a claim (claim.h): the one that it has, and the one that it had before.
using OwnLocks = std::array<FileIdentity, 2>;
// Whether the file at `path` may lose it to a registry of the claim with these locks: there is none, or
// its header names one of them, or none at all. Else kForeign.
Problem MayTakeName(const std::string& path, const OwnLocks& locks);
// Gives the file at `new_path` the name `path`, if MayTakeName(); what was there is then superseded.
// Looking and renaming are one step: the two change names, and change back. Nothing is at `new_path`
// afterwards.
Problem TakeName(const std::string& path, const std::string& new_path, const OwnLocks& locks);

// Rolls a migration back from inside: puts the file that `own` maps back to `path`, if another one is
// there; the other one, of whatever layout, is then marked as superseded and without a name.
// REQUIRES: `own` is mapped for writing.
Problem RollBackMigration(const std::string& path, Segment& own);

// Rolls a migration of the file at PATH that was not finished back from outside: false when there is
// no PATH.previous in a layout that this program knows. REQUIRES: nothing was acknowledged from the
// new file.
bool RollBackUnfinishedMigration(const std::string& path);

// Makes a migration final: removes PATH.previous, marked as superseded, unless it is the file that
// `own` maps.
void FinishMigration(const std::string& path, const Segment& own);

// Removes what a migration, or rolling one back, that was cut short has left beside the file at
// `path`, which `own` maps; but not PATH.previous, which its mapper may want back. REQUIRES: `own` is
// mapped for writing.
void RemoveLeftovers(const std::string& path, Segment& own);

// For tests: when set, is called with 1, 2, ... before each of the steps of Migrate() and
// RollBackMigration().
using MigrationHook = void (*)(int step);
void SetMigrationHookForTests(MigrationHook hook);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_MIGRATION_H_
