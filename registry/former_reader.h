// Reading a segment in any known layout by its description. Apart from reader.cc, so that nothing of it
// comes into the functions by which the newest layout is read (INV-1).
//
// Thread safety: all may be called from any number of threads, while writers write.
#ifndef EVERMAP_REGISTRY_FORMER_READER_H_
#define EVERMAP_REGISTRY_FORMER_READER_H_

#include <cstdint>
#include <string_view>

#include "registry/registration.h"
#include "registry/segment.h"

namespace evermap {

// As the members of RegistryView (reader.h). REQUIRES: 1 <= name.size() <= kRegistryNameSizeMax.
bool LookupInFormer(const Segment& segment, std::string_view name, Registration& found);
bool ReadSlotInFormer(const Segment& segment, uint32_t slot, Registration& found);
uint32_t CountLiveInFormer(const Segment& segment);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_FORMER_READER_H_
