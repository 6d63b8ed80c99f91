// What becomes of each record when a registry is copied into a file of another layout.
//
// Thread safety: reads one segment, to which nobody must write meanwhile.
#ifndef EVERMAP_REGISTRY_MIGRATION_PLAN_H_
#define EVERMAP_REGISTRY_MIGRATION_PLAN_H_

#include <cstdint>
#include <vector>

#include "registry/former_segment.h"
#include "registry/layout_words.h"

namespace evermap {

struct MigrationPlan {
  // By slot; as many as the new file has used: registrations keep their slots. What dead writers left
  // half done is as recovery would settle it; kFree: the record is left out.
  std::vector<layout::Kind> kinds;
  // No name that is left out for want of room had a higher creation.
  uint32_t forgotten_creation = 0;
};

// Of the names that are only remembered no more are taken over than a registry may remember (slab.h):
// those that left last.
MigrationPlan PlanMigration(const FormerSegment& from);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_MIGRATION_PLAN_H_
