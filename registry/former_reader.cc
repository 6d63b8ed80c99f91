#include "registry/former_reader.h"

#include "registry/former_segment.h"
#include "registry/read_segment.h"

namespace evermap {

bool LookupInFormer(const Segment& segment, std::string_view name, Registration& found) {
  return LookupIn(FormerSegment(segment), name, found);
}

bool ReadSlotInFormer(const Segment& segment, uint32_t slot, Registration& found) {
  return ReadSlotIn(FormerSegment(segment), slot, found);
}

uint32_t CountLiveInFormer(const Segment& segment) {
  const FormerSegment former(segment);
  uint32_t live = 0;
  const uint32_t slots = former.high_water();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (layout::IsFound(layout::KindOf(layout::Load(former.record(slot).state)))) ++live;
  }
  return live;
}

}  // namespace evermap
