// Layout version 3, frozen as it is when a newer one takes its place: for the throw-away layout in this
// folder, to which it is a former one. A test checks that these numbers are those of
// registry/layout.h.
#ifndef EVERMAP_REGISTRY_LAYOUT_V3_H_
#define EVERMAP_REGISTRY_LAYOUT_V3_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "registry/layout_description.h"
#include "registry/layout_words.h"

namespace evermap::layout_v3 {

inline constexpr uint32_t kHeaderSize = 4096;
inline constexpr uint32_t kStatisticsSize = 1024;
inline constexpr uint32_t kWorkers = 256;
inline constexpr uint32_t kRecordSize = 256;
inline constexpr uint32_t kBlockSize = 2048;
inline constexpr uint32_t kExtentSize = 69632;
inline constexpr uint32_t kExtentRecords = 256;
inline constexpr uint32_t kExtentBlocks = 32;
inline constexpr uint32_t kBucketsMax = 65536;
inline constexpr uint32_t kTextAt = 96;          // in a record: the name, then the extra
inline constexpr uint32_t kTextWords = 20;       // there
inline constexpr uint32_t kBlockExtraAt = 1024;  // in a block; the name begins it

constexpr layout::Geometry GeometryFor(uint32_t capacity) {
  layout::Geometry g;
  g.version = 3;
  g.capacity = capacity;
  g.buckets = std::bit_ceil(capacity < kBucketsMax ? capacity : kBucketsMax);
  g.statistics_offset = kHeaderSize;
  g.statistics_size = kStatisticsSize;
  g.buckets_offset = layout::RoundUpToPage(kHeaderSize + kWorkers * kStatisticsSize);
  g.extents_offset = layout::RoundUpToPage(g.buckets_offset + uint64_t{g.buckets} * 8);
  g.extent_size = kExtentSize;
  g.extent_records = kExtentRecords;
  g.extent_blocks = kExtentBlocks;
  g.extents_max = (capacity + kExtentRecords - 1) / kExtentRecords +
                  (capacity + kExtentBlocks - 1) / kExtentBlocks;
  g.file_size_min = g.extents_offset + g.extent_size;
  g.file_size_max = g.extents_offset + g.extents_max * g.extent_size;
  return g;
}
static_assert(GeometryFor(1).buckets_offset == 266240);
static_assert(GeometryFor(65536).file_size_min == 860160);
static_assert(GeometryFor(65536).file_size_max == 161222656);

inline std::vector<layout::HeaderWord> HeaderWords(const layout::Geometry& g) {
  return {
      {0, layout::kMagic},
      {8, layout::Halves(3, kHeaderSize)},
      {16, g.extents_offset},
      {24, layout::Halves(g.capacity, g.buckets)},
      {32, layout::Halves(kRecordSize, kBlockSize)},
      {40, g.statistics_offset},
      {48, g.buckets_offset},
      {56, layout::Halves(kExtentSize, g.extents_max)},
      {64, layout::Halves(kExtentRecords, kExtentBlocks)},
  };
}

constexpr size_t WordsFor(size_t bytes) { return (bytes + 7) / 8; }

// A name that does not fit into the record is in its block, and so is an extra that does not fit behind
// the name.
constexpr layout::TextPlace NamePlace(size_t name_size) {
  if (WordsFor(name_size) > kTextWords) return {.is_in_block = true, .offset = 0};
  return {.is_in_block = false, .offset = kTextAt};
}
constexpr layout::TextPlace ExtraPlace(size_t name_size, size_t extra_size) {
  if (WordsFor(name_size) + WordsFor(extra_size) > kTextWords) {
    return {.is_in_block = true, .offset = kBlockExtraAt};
  }
  return {.is_in_block = false, .offset = kTextAt + static_cast<uint32_t>(WordsFor(name_size)) * 8};
}

inline constexpr layout::LayoutDescription kDescription = {
    .version = 3,
    .header_size = kHeaderSize,
    .record_size = kRecordSize,
    .block_size = kBlockSize,
    .header = {.capacity = 24,
               .hash_key = 72,
               .created_unix_ns = 88,
               .fingerprint = 96,
               .boot_id = 104,
               .next_id = 256,
               .generation = 320,
               .high_water = 384,
               .creation_floor = 448,
               .last_departure = 512,
               .steady_offset = 160,
               .shown_offset = 168,
               .tells_changes = 176,
               .mapper = 576,
               .upgrade = 2176},
    .record = {.state = 0,
               .next = 8,
               .hash = 16,
               .id = 24,
               .address = 32,
               .sizes = 40,
               .connection_cookie = 48,
               .listener_cookie = 56,
               .user = 64,
               .since_unix_ns = 72,
               .departure = 80,
               .text_block = 88},
    .geometry = GeometryFor,
    .header_words = HeaderWords,
    .name_place = NamePlace,
    .extra_place = ExtraPlace,
};

}  // namespace evermap::layout_v3

#endif  // EVERMAP_REGISTRY_LAYOUT_V3_H_
