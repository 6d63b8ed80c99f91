// Layout version 2, frozen: the bytes of files that release 0.1.0 writes. Numbers only, as in
// layout_v1.h: migration and readers use them by the description, and so does the way back
// (migrate_down.h).
#ifndef EVERMAP_REGISTRY_LAYOUT_V2_H_
#define EVERMAP_REGISTRY_LAYOUT_V2_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "registry/layout_description.h"
#include "registry/layout_words.h"

namespace evermap::layout_v2 {

inline constexpr uint32_t kHeaderSize = 4096;
inline constexpr uint32_t kStatisticsSize = 1024;
inline constexpr uint32_t kWorkers = 256;
inline constexpr uint32_t kRecordSize = 256;
inline constexpr uint32_t kOverflowSize = 2048;
inline constexpr uint32_t kTextAt = 88;             // in a record: the name, then the extra
inline constexpr uint32_t kTextWords = 21;          // there
inline constexpr uint32_t kOverflowExtraAt = 1024;  // in an overflow block; the name begins it

constexpr layout::Geometry GeometryFor(uint32_t capacity) {
  layout::Geometry g;
  g.version = 2;
  g.capacity = capacity;
  g.buckets = std::bit_ceil(capacity);
  g.statistics_offset = kHeaderSize;
  g.statistics_size = kStatisticsSize;
  g.buckets_offset = layout::RoundUpToPage(kHeaderSize + kWorkers * kStatisticsSize);
  g.records_offset = layout::RoundUpToPage(g.buckets_offset + uint64_t{g.buckets} * 8);
  g.overflow_offset = layout::RoundUpToPage(g.records_offset + uint64_t{capacity} * kRecordSize);
  g.file_size_max = layout::RoundUpToPage(g.overflow_offset + uint64_t{capacity} * kOverflowSize);
  g.file_size_min = g.file_size_max;
  return g;
}
static_assert(GeometryFor(1).buckets_offset == 266240);
static_assert(GeometryFor(65536).file_size_max == 151785472);

inline std::vector<layout::HeaderWord> HeaderWords(const layout::Geometry& g) {
  return {
      {0, layout::kMagic},
      {8, layout::Halves(2, kHeaderSize)},
      {16, g.file_size_max},
      {24, layout::Halves(g.capacity, g.buckets)},
      {32, layout::Halves(kRecordSize, kOverflowSize)},
      {40, g.statistics_offset},
      {48, g.buckets_offset},
      {56, g.records_offset},
      {64, g.overflow_offset},
  };
}

constexpr size_t WordsFor(size_t bytes) { return (bytes + 7) / 8; }

// A name that does not fit into the record is in its overflow block, and so is an extra that does
// not fit behind the name.
constexpr layout::TextPlace NamePlace(size_t name_size) {
  if (WordsFor(name_size) > kTextWords) return {.is_in_block = true, .offset = 0};
  return {.is_in_block = false, .offset = kTextAt};
}
constexpr layout::TextPlace ExtraPlace(size_t name_size, size_t extra_size) {
  if (WordsFor(name_size) + WordsFor(extra_size) > kTextWords) {
    return {.is_in_block = true, .offset = kOverflowExtraAt};
  }
  return {.is_in_block = false, .offset = kTextAt + static_cast<uint32_t>(WordsFor(name_size)) * 8};
}

inline constexpr layout::LayoutDescription kDescription = {
    .version = 2,
    .header_size = kHeaderSize,
    .record_size = kRecordSize,
    .block_size = kOverflowSize,
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
               .departure = 80},
    .geometry = GeometryFor,
    .header_words = HeaderWords,
    .name_place = NamePlace,
    .extra_place = ExtraPlace,
};

}  // namespace evermap::layout_v2

#endif  // EVERMAP_REGISTRY_LAYOUT_V2_H_
