// Where the name and the extra of a record lie in the newest layout: in the record, or, what does
// not fit there, in the block that the record has (text_pool.h).
//
// Thread safety: that of the words that it leads to (layout.h).
#ifndef EVERMAP_REGISTRY_TEXT_PLACE_H_
#define EVERMAP_REGISTRY_TEXT_PLACE_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "registry/layout.h"
#include "registry/registration.h"
#include "registry/segment.h"

namespace evermap {

// A block whose texts are all zero, for a record that has none in the file as it should (INV-6).
inline const layout::TextBlock kNoTextBlock = {};

// The block that record `index` has. REQUIRES: segment.HasRecord(index). Not inline, so that what asks for
// texts in records is small enough to be (INV-1).
[[gnu::noinline]] inline const layout::TextBlock& BlockOf(const Segment& segment, uint32_t index) {
  const char* block = segment.extents().BlockAt(layout::Load(segment.record(index).text_block));
  return block == nullptr ? kNoTextBlock : *reinterpret_cast<const layout::TextBlock*>(block);
}
// To be written to. REQUIRES: the caller has provided for it (text_pool.h).
[[gnu::noinline]] inline layout::TextBlock& BlockOf(Segment& segment, uint32_t index) {
  char* block = segment.extents().BlockAt(layout::Load(segment.record(index).text_block));
  assert(block != nullptr);
  return *reinterpret_cast<layout::TextBlock*>(block);
}

// Words of the name of record `index`. SegmentType is Segment or const Segment.
// REQUIRES: segment.HasRecord(index); name_size is at most kRegistryNameSizeMax.
template <typename SegmentType>
requires std::is_same_v<const SegmentType, const Segment>
auto* NameWords(SegmentType& segment, uint32_t index, size_t name_size) {
  assert(name_size <= kRegistryNameSizeMax);
  // A name is nearly always in its record: the other place is not computed beforehand (INV-1).
  if (layout::NameIsInline(name_size)) [[likely]]
    return &segment.record(index).text[0];
  return &BlockOf(segment, index).name[0];
}

// Words of its extra. REQUIRES: also extra_size <= kRegistryExtraSizeMax.
template <typename SegmentType>
requires std::is_same_v<const SegmentType, const Segment>
auto* ExtraWords(SegmentType& segment, uint32_t index, size_t name_size, size_t extra_size) {
  assert(name_size <= kRegistryNameSizeMax && extra_size <= kRegistryExtraSizeMax);
  if (layout::ExtraIsInline(name_size, extra_size)) [[likely]]
    return &segment.record(index).text[0] + layout::TextWords(name_size);
  return &BlockOf(segment, index).extra[0];
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_TEXT_PLACE_H_
