#include "registry/occupancy.h"

#include <cassert>

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Word;

Word& WordOf(Segment& segment, uint32_t index) {
  assert(segment.HasRecord(index));
  auto& head = const_cast<layout::ExtentHead&>(HeadOf(segment, index));
  return head.occupancy[index % layout::kExtentRecords / layout::kSlotsPerWord];
}
uint32_t BitOf(uint32_t index) { return 1u << (index % layout::kSlotsPerWord); }

}  // namespace

void SetOccupied(Segment& segment, uint32_t index) {
  Word& word = WordOf(segment, index);
  uint64_t before = Load(word);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    if (word.compare_exchange_strong(
            before, layout::NextBits(before, layout::BitsOf(before) | BitOf(index)),
            std::memory_order_acq_rel, std::memory_order_acquire)) {
      return;
    }
  }
}

void ClearIfVacant(Segment& segment, uint32_t index) {
  Word& word = WordOf(segment, index);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t before = Load(word);
    if ((layout::BitsOf(before) & BitOf(index)) == 0) return;
    const Kind kind = layout::KindOf(Load(segment.record(index).state));
    if (kind != Kind::kFree && kind != Kind::kRemembered) return;
    if (layout::Replace(word, before,
                        layout::NextBits(before, layout::BitsOf(before) & ~BitOf(index)))) {
      return;
    }
  }
}

}  // namespace evermap
