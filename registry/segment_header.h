// The header of a registry file: checked when a file is opened, written when one is made.
//
// Nothing read from a file is trusted (INV-6): a file is accepted only if its header says exactly
// what a file of its layout and capacity says, and a checksum covers it. Depends on nothing but the
// standard library and the kernel, since the C library is made of it too.
#ifndef EVERMAP_REGISTRY_SEGMENT_HEADER_H_
#define EVERMAP_REGISTRY_SEGMENT_HEADER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "registry/layout_description.h"
#include "registry/problem.h"
#include "registry/siphash.h"

namespace evermap {

using BootId = std::array<uint64_t, 2>;
// Boot id of the running kernel; all zero when it cannot be read.
BootId CurrentBootId();
// Whether both may be of one boot. Of an id that could not be read, or was written by halves, nobody
// knows that it was another boot, and only what is known to be of another may be forgotten.
bool MayBeOneBoot(const BootId& one, const BootId& other);

// What a new registry file begins with.
struct SegmentOrigin {
  uint32_t capacity = 0;  // 1 to kRegistryCapacityMax
  SipHashKey hash_key;
  uint64_t created_unix_ns = 0;
  BootId boot = {};
};

// What is known of a file from its header.
struct SegmentShape {
  const layout::LayoutDescription* description = nullptr;  // never null after CheckHeader()
  layout::Geometry geometry;
  SipHashKey hash_key;
};

// The largest header of all layouts that this code knows, in bytes.
size_t HeaderSizeMax();
// Layout version `version`; null when this code does not know it.
const layout::LayoutDescription* DescriptionOf(uint32_t version);

// Fills `shape` from `header`, the first `size` bytes of the file at `path`, which has `file_size`
// bytes; or says why the file is not accepted. REQUIRES: kHeaderSizeMin <= size <= file_size;
// size >= HeaderSizeMax() unless that is all there is of the file.
Problem CheckHeader(const std::string& path, const void* header, size_t size, uint64_t file_size,
                    SegmentShape& shape);

// Writes what the header of a new file in the layout of `description` begins with. REQUIRES: `header`
// leads to as many zero bytes as it has.
void WriteHeader(const layout::LayoutDescription& description, const SegmentOrigin& origin,
                 void* header);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SEGMENT_HEADER_H_
