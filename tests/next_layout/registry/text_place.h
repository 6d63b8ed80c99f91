// Where the name and the extra of a record lie in the throw-away layout: always in the record.
#ifndef EVERMAP_REGISTRY_TEXT_PLACE_H_
#define EVERMAP_REGISTRY_TEXT_PLACE_H_

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "registry/layout.h"
#include "registry/registration.h"
#include "registry/segment.h"

namespace evermap {

inline const layout::Word* NameWords(const Segment& segment, uint32_t index, size_t name_size) {
  assert(name_size <= kRegistryNameSizeMax);
  static_cast<void>(name_size);
  return segment.record(index).name;
}
inline layout::Word* NameWords(Segment& segment, uint32_t index, size_t name_size) {
  assert(name_size <= kRegistryNameSizeMax);
  static_cast<void>(name_size);
  return segment.record(index).name;
}

inline const layout::Word* ExtraWords(const Segment& segment, uint32_t index, size_t name_size,
                                      size_t extra_size) {
  assert(name_size <= kRegistryNameSizeMax && extra_size <= kRegistryExtraSizeMax);
  static_cast<void>(name_size + extra_size);
  return segment.record(index).extra;
}
inline layout::Word* ExtraWords(Segment& segment, uint32_t index, size_t name_size,
                                size_t extra_size) {
  assert(name_size <= kRegistryNameSizeMax && extra_size <= kRegistryExtraSizeMax);
  static_cast<void>(name_size + extra_size);
  return segment.record(index).extra;
}

inline bool CommitText(const Segment&, uint32_t, size_t, size_t) { return true; }

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_TEXT_PLACE_H_
