// Which records have something registered: one bit each, so that what walks registrations costs what
// lives, and not what was ever seen (P11).
//
// A bit may be set without need, as a writer may have died before it cleared it; so what is found by
// a bit is looked at. A clear bit says for sure that nothing is registered there.
//
// Thread safety: all may be called from any number of threads and processes at once.
// Invariants: L-14 in layout.h.
#ifndef EVERMAP_REGISTRY_OCCUPANCY_H_
#define EVERMAP_REGISTRY_OCCUPANCY_H_

#include <bit>
#include <cstdint>

#include "registry/layout.h"
#include "registry/segment.h"

namespace evermap {

// The words about the extent that record `index` is in. REQUIRES: segment.HasRecord(index).
inline const layout::ExtentHead& HeadOf(const Segment& segment, uint32_t index) {
  const layout::Record& first = segment.record(index - index % layout::kExtentRecords);
  return reinterpret_cast<const layout::ExtentHead*>(&first)[-1];
}

// The bits of the 32 records that record `index` is one of, that of the first the lowest.
// REQUIRES: segment.HasRecord(index).
inline uint32_t OccupiedAmong(const Segment& segment, uint32_t index) {
  const uint32_t word = index % layout::kExtentRecords / layout::kSlotsPerWord;
  return layout::BitsOf(layout::Load(HeadOf(segment, index).occupancy[word]));
}

// Sets the bit of record `index`. REQUIRES: the caller has claimed it, or nobody else writes.
void SetOccupied(Segment& segment, uint32_t index);

// Clears it if the record is free or remembered. REQUIRES: segment.HasRecord(index).
void ClearIfVacant(Segment& segment, uint32_t index);

// The first slot from `slot` on whose bit is set, looking at `words_max` words at most: the slot at
// which to go on when there is none among these, and at most `end`. REQUIRES: end <= slots inside the
// file. Counts the words that it has looked at down from `words_max`.
inline uint32_t NextOccupied(const Segment& segment, uint32_t slot, uint32_t end,
                             uint32_t& words_max) {
  while (slot < end && words_max > 0) {
    const uint32_t from_here = OccupiedAmong(segment, slot) >> (slot % layout::kSlotsPerWord);
    if (from_here != 0) {
      slot += static_cast<uint32_t>(std::countr_zero(from_here));
      return slot < end ? slot : end;
    }
    slot = (slot / layout::kSlotsPerWord + 1) * layout::kSlotsPerWord;
    --words_max;
  }
  return slot < end ? slot : end;
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_OCCUPANCY_H_
