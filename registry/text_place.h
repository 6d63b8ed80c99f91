// Where the name and the extra of a record lie in the newest layout: in the record, or, what does
// not fit there, in the record's overflow block. The place depends on the sizes alone (L-3).
//
// Thread safety: that of the words that it leads to (layout.h).
#ifndef EVERMAP_REGISTRY_TEXT_PLACE_H_
#define EVERMAP_REGISTRY_TEXT_PLACE_H_

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "registry/layout.h"
#include "registry/registration.h"
#include "registry/segment.h"

namespace evermap {

// The overflow block of record `index`. REQUIRES: index < capacity.
inline const layout::OverflowBlock& OverflowOf(const Segment& segment, uint32_t index) {
  return *segment.at<layout::OverflowBlock>(layout::OverflowOffset(segment.geometry(), index));
}

// Words of the name of record `index`. REQUIRES: index < capacity; name_size is at most
// kRegistryNameSizeMax.
inline const layout::Word* NameWords(const Segment& segment, uint32_t index, size_t name_size) {
  assert(name_size <= kRegistryNameSizeMax);
  // A name is nearly always in its record: the other place is not computed beforehand (INV-1).
  if (layout::NameIsInline(name_size)) [[likely]]
    return segment.record(index).text;
  return OverflowOf(segment, index).name;
}
inline layout::Word* NameWords(Segment& segment, uint32_t index, size_t name_size) {
  return const_cast<layout::Word*>(
      NameWords(static_cast<const Segment&>(segment), index, name_size));
}

// Words of its extra. REQUIRES: also extra_size <= kRegistryExtraSizeMax.
inline const layout::Word* ExtraWords(const Segment& segment, uint32_t index, size_t name_size,
                                      size_t extra_size) {
  assert(name_size <= kRegistryNameSizeMax && extra_size <= kRegistryExtraSizeMax);
  if (layout::ExtraIsInline(name_size, extra_size)) [[likely]] {
    return segment.record(index).text + layout::TextWords(name_size);
  }
  return OverflowOf(segment, index).extra;
}
inline layout::Word* ExtraWords(Segment& segment, uint32_t index, size_t name_size,
                                size_t extra_size) {
  return const_cast<layout::Word*>(
      ExtraWords(static_cast<const Segment&>(segment), index, name_size, extra_size));
}

// Gives memory to what a name and an extra of these sizes need beside the record; false when there
// is none. REQUIRES: the segment is opened for writing.
inline bool CommitText(const Segment& segment, uint32_t index, size_t name_size,
                       size_t extra_size) {
  if (!layout::NeedsOverflow(name_size, extra_size)) return true;
  return segment.Commit(layout::OverflowOffset(segment.geometry(), index),
                        sizeof(layout::OverflowBlock));
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_TEXT_PLACE_H_
