// What lies where in one version of the layout, as plain numbers: how files of former versions are
// read (former_segment.h) and how a file of any version is checked (segment_header.h).
//
// The newest version is also described by the structures of layout.h, whose offsets the compiler
// knows: its lookups use those (INV-1) and never look into a description.
//
// Depends on nothing but the standard library.
#ifndef EVERMAP_REGISTRY_LAYOUT_DESCRIPTION_H_
#define EVERMAP_REGISTRY_LAYOUT_DESCRIPTION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "registry/layout_words.h"

namespace evermap::layout {

// Where the parts of a segment for `capacity` names lie: byte offsets in the file, and sizes.
struct Geometry {
  uint32_t version = 0;  // of the layout
  uint32_t capacity = 0;
  uint32_t buckets = 0;  // a power of two
  uint64_t statistics_offset = 0;
  uint64_t statistics_size = 0;  // of one worker
  uint64_t buckets_offset = 0;
  // Until version 2 all records lie in one place, and so do the blocks of text, one for each record.
  uint64_t records_offset = 0;
  uint64_t overflow_offset = 0;
  // Since version 3 they lie in extents, which the file gets as they are needed (extents.h).
  uint64_t extents_offset = 0;
  uint64_t extent_size = 0;
  uint32_t extents_max = 0;     // 0: the layout has none
  uint32_t extent_records = 0;  // in an extent of records; a power of two
  uint32_t extent_blocks = 0;   // in an extent of blocks
  // The file has at least the first size, and what is in it beyond the second is never used. Both are
  // the same where the file does not grow.
  uint64_t file_size_min = 0;
  uint64_t file_size_max = 0;
};

constexpr uint64_t RoundUpToPage(uint64_t bytes) {
  return (bytes + kPageSize - 1) / kPageSize * kPageSize;
}

// A word of the header and what it holds in every file of one geometry.
struct HeaderWord {
  uint32_t offset = 0;
  uint64_t value = 0;
};

// A word that a layout does not have; it reads as 0.
inline constexpr uint32_t kNoSuchWord = ~0u;

// Where a text lies: byte offset in its record, or in the block that the record has.
struct TextPlace {
  bool is_in_block = false;
  uint32_t offset = 0;
  bool operator==(const TextPlace&) const = default;
};

struct LayoutDescription {
  uint32_t version = 0;
  uint32_t header_size = 0;  // bytes, at least kHeaderSizeMin
  uint32_t record_size = 0;  // bytes
  uint32_t block_size = 0;   // bytes

  // Byte offsets in the header. The words before `fingerprint` are those that it covers.
  struct Header {
    uint32_t capacity = 0;  // low half: capacity in records
    uint32_t hash_key = 0;  // two words
    uint32_t created_unix_ns = 0;
    uint32_t fingerprint = 0;
    uint32_t boot_id = 0;  // two words
    uint32_t next_id = 0;
    uint32_t generation = 0;
    uint32_t high_water = 0;
    uint32_t creation_floor = 0;
    uint32_t last_departure = 0;
    uint32_t steady_offset = kNoSuchWord;
    uint32_t shown_offset = kNoSuchWord;
    uint32_t tells_changes = kNoSuchWord;
    uint32_t mapper = 0;   // a StatusNote
    uint32_t upgrade = 0;  // a StatusNote
    bool operator==(const Header&) const = default;
  } header;

  // Byte offsets in a record.
  struct Record {
    uint32_t state = 0;
    uint32_t next = 0;
    uint32_t hash = 0;
    uint32_t id = 0;
    uint32_t address = 0;
    uint32_t sizes = 0;
    uint32_t connection_cookie = 0;
    uint32_t listener_cookie = 0;
    uint32_t user = 0;
    uint32_t since_unix_ns = 0;
    uint32_t departure = 0;
    uint32_t text_block = kNoSuchWord;  // number of the block that the record has, + 1; 0: none
    bool operator==(const Record&) const = default;
  } record;

  // REQUIRES: 1 <= capacity <= kRegistryCapacityMax.
  Geometry (*geometry)(uint32_t capacity) = nullptr;
  // What the header says of a file of this geometry, in the order in which it is written.
  std::vector<HeaderWord> (*header_words)(const Geometry& geometry) = nullptr;
  // Where the name and the extra of a record lie.
  // REQUIRES: the sizes are at most kRegistryNameSizeMax, kRegistryExtraSizeMax.
  TextPlace (*name_place)(size_t name_size) = nullptr;
  TextPlace (*extra_place)(size_t name_size, size_t extra_size) = nullptr;
};

}  // namespace evermap::layout

#endif  // EVERMAP_REGISTRY_LAYOUT_DESCRIPTION_H_
