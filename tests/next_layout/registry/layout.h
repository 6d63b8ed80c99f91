// A layout that will never be used, to show that layouts can change: the registry compiled with this
// folder before its own (registry/meson.build) writes version 4, in which
//
//   - the header has two pages, the counters lie in the second, the notes before them, and the words
//     of the sizes in another order;
//   - a record has twice the size, and one word more, which comes before all others but the state;
//   - an extent has 64 records or 16 blocks, and the extra comes before the name in a block;
//   - the workers' counters come after the buckets, of which there are a quarter as many.
//
// The rules are those of registry/layout.h.
#ifndef EVERMAP_REGISTRY_LAYOUT_H_
#define EVERMAP_REGISTRY_LAYOUT_H_

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "registry/counters.h"
#include "registry/layout_description.h"
#include "registry/layout_words.h"
#include "registry/registration.h"

namespace evermap::layout {

inline constexpr uint32_t kLayoutVersion = 4;

inline constexpr size_t kRecordSize = 512;
inline constexpr size_t kBlockSize = 2048;
inline constexpr size_t kInlineWords = 51;
inline constexpr size_t kBlockTextWords = 128;  // for 1,020 bytes
inline constexpr uint32_t kExtentRecords = 64;
inline constexpr uint32_t kExtentBlocks = 16;
inline constexpr size_t kExtentSize = kExtentHeadSize + kExtentRecords * kRecordSize;
static_assert(kExtentSize == kExtentHeadSize + kExtentBlocks * kBlockSize);

struct Header {
  Word magic;
  Word version_and_header_size;
  Word hash_key[2];
  Word capacity;
  Word record_and_block_size;
  Word extents_offset;
  Word buckets_and_statistics_size;
  Word buckets_offset;
  Word statistics_offset;
  Word extent_size_and_max;
  Word created_unix_ns;
  Word fingerprint;
  Word reserved_0[2];
  Word superseded;
  Word owner[4];
  Word boot_id[2];
  StatusNote upgrade;
  StatusNote mapper;
  Word reserved_1[90];
  Word last_departure;
  Word reserved_2[7];
  Word creation_floor;
  Word reserved_3[7];
  Word high_water;
  Word reserved_4[7];
  Word next_id;
  Word reserved_5[7];
  Word generation;
  Word shown_offset;
  Word steady_offset;
  Word tells_changes;
  Word reserved_6[476];
};
static_assert(sizeof(Header) == 2 * kPageSize);
static_assert(offsetof(Header, magic) == kMagicAt);
static_assert(offsetof(Header, version_and_header_size) == kVersionAt);
static_assert(offsetof(Header, superseded) == kSupersededAt);
static_assert(offsetof(Header, owner) == kOwnerAt);
static_assert(offsetof(Header, last_departure) == kPageSize);

struct ExtentHead {
  Word use;
  Word block_owners[kExtentBlocks];
  Word occupancy[kExtentRecords / kSlotsPerWord];
  Word reserved[493];
};
static_assert(sizeof(ExtentHead) == kExtentHeadSize);

struct Record {
  Word state;
  Word added;
  Word departure;
  Word user;
  Word sizes;
  Word hash;
  Word id;
  Word next;
  Word address;
  Word since_unix_ns;
  Word listener_cookie;
  Word text_block;
  Word connection_cookie;
  Word text[kInlineWords];
};
static_assert(sizeof(Record) == kRecordSize);

struct TextBlock {
  Word extra[kBlockTextWords];
  Word name[kBlockTextWords];
};
static_assert(sizeof(TextBlock) == kBlockSize);

inline constexpr size_t kStatisticsSize = sizeof(WorkerStatistics);

constexpr size_t TextWords(size_t bytes) { return (bytes + 7) / 8; }
constexpr bool NameIsInline(size_t name_size) { return TextWords(name_size) <= kInlineWords; }
constexpr bool ExtraIsInline(size_t name_size, size_t extra_size) {
  return TextWords(name_size) + TextWords(extra_size) <= kInlineWords;
}
constexpr bool NeedsBlock(size_t name_size, size_t extra_size) {
  return !NameIsInline(name_size) || (extra_size > 0 && !ExtraIsInline(name_size, extra_size));
}

constexpr Geometry GeometryFor(uint32_t capacity) {
  assert(capacity >= 1 && capacity <= kRegistryCapacityMax);
  Geometry g;
  g.version = kLayoutVersion;
  g.capacity = capacity;
  g.buckets = std::bit_ceil((capacity + 3) / 4);
  g.buckets_offset = sizeof(Header);
  g.statistics_size = kStatisticsSize;
  g.statistics_offset = RoundUpToPage(g.buckets_offset + uint64_t{g.buckets} * sizeof(Word));
  g.extents_offset = RoundUpToPage(g.statistics_offset + kStatisticsWorkersMax * g.statistics_size);
  g.extent_size = kExtentSize;
  g.extent_records = kExtentRecords;
  g.extent_blocks = kExtentBlocks;
  g.extents_max = (capacity + kExtentRecords - 1) / kExtentRecords +
                  (capacity + kExtentBlocks - 1) / kExtentBlocks;
  g.file_size_min = g.extents_offset + g.extent_size;
  g.file_size_max = g.extents_offset + g.extents_max * g.extent_size;
  return g;
}

inline std::vector<HeaderWord> HeaderWords(const Geometry& g) {
  return {
      {offsetof(Header, magic), kMagic},
      {offsetof(Header, version_and_header_size), Halves(g.version, sizeof(Header))},
      {offsetof(Header, capacity), g.capacity},
      {offsetof(Header, record_and_block_size), Halves(kRecordSize, kBlockSize)},
      {offsetof(Header, extents_offset), g.extents_offset},
      {offsetof(Header, buckets_and_statistics_size), Halves(g.buckets, kStatisticsSize)},
      {offsetof(Header, buckets_offset), g.buckets_offset},
      {offsetof(Header, statistics_offset), g.statistics_offset},
      {offsetof(Header, extent_size_and_max), Halves(kExtentSize, g.extents_max)},
  };
}
constexpr TextPlace NamePlace(size_t name_size) {
  if (!NameIsInline(name_size)) return {.is_in_block = true, .offset = offsetof(TextBlock, name)};
  return {.is_in_block = false, .offset = offsetof(Record, text)};
}
constexpr TextPlace ExtraPlace(size_t name_size, size_t extra_size) {
  if (!ExtraIsInline(name_size, extra_size)) {
    return {.is_in_block = true, .offset = offsetof(TextBlock, extra)};
  }
  return {.is_in_block = false,
          .offset =
              static_cast<uint32_t>(offsetof(Record, text) + TextWords(name_size) * sizeof(Word))};
}

inline constexpr LayoutDescription kDescription = {
    .version = kLayoutVersion,
    .header_size = sizeof(Header),
    .record_size = kRecordSize,
    .block_size = kBlockSize,
    .header = {.capacity = offsetof(Header, capacity),
               .hash_key = offsetof(Header, hash_key),
               .created_unix_ns = offsetof(Header, created_unix_ns),
               .fingerprint = offsetof(Header, fingerprint),
               .boot_id = offsetof(Header, boot_id),
               .next_id = offsetof(Header, next_id),
               .generation = offsetof(Header, generation),
               .high_water = offsetof(Header, high_water),
               .creation_floor = offsetof(Header, creation_floor),
               .last_departure = offsetof(Header, last_departure),
               .steady_offset = offsetof(Header, steady_offset),
               .shown_offset = offsetof(Header, shown_offset),
               .tells_changes = offsetof(Header, tells_changes),
               .mapper = offsetof(Header, mapper),
               .upgrade = offsetof(Header, upgrade)},
    .record = {.state = offsetof(Record, state),
               .next = offsetof(Record, next),
               .hash = offsetof(Record, hash),
               .id = offsetof(Record, id),
               .address = offsetof(Record, address),
               .sizes = offsetof(Record, sizes),
               .connection_cookie = offsetof(Record, connection_cookie),
               .listener_cookie = offsetof(Record, listener_cookie),
               .user = offsetof(Record, user),
               .since_unix_ns = offsetof(Record, since_unix_ns),
               .departure = offsetof(Record, departure),
               .text_block = offsetof(Record, text_block)},
    .geometry = GeometryFor,
    .header_words = HeaderWords,
    .name_place = NamePlace,
    .extra_place = ExtraPlace,
};

}  // namespace evermap::layout

#endif  // EVERMAP_REGISTRY_LAYOUT_H_
