#include "registry/migration_plan.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "registry/slab.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;

// Which records are on a chain. Each is met once, so a damaged segment at worst ends the search early.
std::vector<bool> FindLinked(const FormerSegment& segment) {
  std::vector<bool> linked(segment.capacity(), false);
  for (uint32_t bucket = 0; bucket < segment.buckets(); ++bucket) {
    uint64_t link = Load(segment.bucket(bucket));
    while (!layout::IsEnd(link)) {
      const uint32_t index = layout::IndexOf(link);
      if (!segment.HasRecord(index) || linked[index]) break;
      linked[index] = true;
      link = Load(segment.record(index).next);
    }
  }
  return linked;
}

// What a record of this kind becomes: the same as when recovery settles it (recovery.cc).
Kind Settled(Kind kind, bool is_linked) {
  switch (kind) {
    case Kind::kLive:
    case Kind::kAmending:
      return Kind::kLive;
    case Kind::kOrphaned:
    case Kind::kAdopting:
      return Kind::kOrphaned;
    case Kind::kRemembered:
      return Kind::kRemembered;
    case Kind::kClaimed:
      return is_linked ? Kind::kRemembered : Kind::kFree;
    default:
      return Kind::kFree;
  }
}

}  // namespace

MigrationPlan PlanMigration(const FormerSegment& from) {
  const std::vector<bool> linked = FindLinked(from);
  MigrationPlan plan;
  std::vector<std::pair<uint64_t, uint32_t>> remembered;  // departure and index
  uint32_t registered = 0;
  const uint32_t slots = from.high_water();
  for (uint32_t index = 0; index < slots; ++index) {
    const FormerRecord record = from.record(index);
    const Kind kind = Settled(layout::KindOf(Load(record.state)), linked[index]);
    plan.kinds.push_back(kind);
    if (kind == Kind::kRemembered) remembered.emplace_back(Load(record.departure), index);
    if (layout::IsFound(kind)) ++registered;
  }
  const size_t remembered_max = std::max(kRememberedMin, registered);
  if (remembered.size() > remembered_max) {
    const auto latest = remembered.end() - static_cast<ptrdiff_t>(remembered_max);
    std::nth_element(remembered.begin(), latest, remembered.end());
    for (auto each = remembered.begin(); each != latest; ++each) {
      plan.kinds[each->second] = Kind::kFree;
      plan.forgotten_creation = std::max(
          plan.forgotten_creation, layout::CreationOf(Load(from.record(each->second).address)));
    }
  }
  while (!plan.kinds.empty() && plan.kinds.back() == Kind::kFree) plan.kinds.pop_back();
  return plan;
}

}  // namespace evermap
