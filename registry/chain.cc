#include "registry/chain.h"

#include <cassert>

namespace evermap {

ChainSearch FindOnChain(Segment& segment, uint32_t bucket, uint32_t index) {
  assert(bucket < segment.geometry().buckets && segment.HasRecord(index));
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    ChainWalk<Segment> walk(segment, bucket);
    ChainStep step = walk.Next();
    while (step == ChainStep::kRecord) {
      if (walk.index() == index && walk.IsValid()) return ChainSearch::kLinked;
      step = walk.Next();
    }
    if (step == ChainStep::kEnd) return ChainSearch::kNotLinked;
    if (step == ChainStep::kBroken) return ChainSearch::kUnknown;
  }
  return ChainSearch::kUnknown;
}

bool TakeOffChain(Segment& segment, uint32_t index) {
  layout::Record& record = segment.record(index);
  uint64_t next = layout::Load(record.next);
  for (uint32_t i = 0; !layout::IsMarked(next); ++i) {
    // Other writers change this link while they take the next record off.
    if (i == layout::kRestartsMax) return false;
    if (record.next.compare_exchange_strong(next, layout::LinkLike(next, next, true),
                                            std::memory_order_acq_rel, std::memory_order_acquire)) {
      break;
    }
  }
  // A walk takes marked records off; one that reaches the end has left none.
  const uint32_t bucket = segment.BucketOf(layout::Load(record.hash));
  return FindOnChain(segment, bucket, index) == ChainSearch::kNotLinked;
}

}  // namespace evermap
