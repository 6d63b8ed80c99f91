// A layout that will never be used, to show that layouts can change: the registry compiled with this
// folder before its own (registry/meson.build) writes version 3, in which
//
//   - the header has two pages, the counters lie in the second, the notes before them, and the words
//     of the sizes in another order;
//   - a record has one word more, which comes before all others but the state;
//   - there are no overflow blocks: each record has room for the longest name and extra;
//   - the workers' counters come after the buckets.
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

inline constexpr uint32_t kLayoutVersion = 3;

struct Header {
  Word magic;
  Word version_and_header_size;
  Word hash_key[2];
  Word capacity;
  Word record_size;
  Word records_offset;
  Word buckets_and_statistics_size;
  Word buckets_offset;
  Word statistics_offset;
  Word file_size;
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
  Word reserved_6[479];
};
static_assert(sizeof(Header) == 2 * kPageSize);
static_assert(offsetof(Header, magic) == kMagicAt);
static_assert(offsetof(Header, version_and_header_size) == kVersionAt);
static_assert(offsetof(Header, superseded) == kSupersededAt);
static_assert(offsetof(Header, last_departure) == kPageSize);

inline constexpr size_t kTextWords = 128;  // for 1,020 bytes
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
  Word connection_cookie;
  Word name[kTextWords];
  Word extra[kTextWords];
};
inline constexpr size_t kRecordSize = sizeof(Record);
static_assert(kRecordSize == 2144);

inline constexpr size_t kStatisticsSize = sizeof(WorkerStatistics);

constexpr Geometry GeometryFor(uint32_t capacity) {
  assert(capacity >= 1 && capacity <= kRegistryCapacityMax);
  Geometry g;
  g.version = kLayoutVersion;
  g.capacity = capacity;
  g.buckets = std::bit_ceil(capacity);
  g.buckets_offset = sizeof(Header);
  g.statistics_size = kStatisticsSize;
  g.statistics_offset = RoundUpToPage(g.buckets_offset + uint64_t{g.buckets} * sizeof(Word));
  g.records_offset = RoundUpToPage(g.statistics_offset + kStatisticsWorkersMax * g.statistics_size);
  g.file_size = RoundUpToPage(g.records_offset + uint64_t{capacity} * kRecordSize);
  return g;
}

inline std::vector<HeaderWord> HeaderWords(const Geometry& g) {
  return {
      {offsetof(Header, magic), kMagic},
      {offsetof(Header, version_and_header_size), Halves(g.version, sizeof(Header))},
      {offsetof(Header, capacity), g.capacity},
      {offsetof(Header, record_size), kRecordSize},
      {offsetof(Header, records_offset), g.records_offset},
      {offsetof(Header, buckets_and_statistics_size), Halves(g.buckets, kStatisticsSize)},
      {offsetof(Header, buckets_offset), g.buckets_offset},
      {offsetof(Header, statistics_offset), g.statistics_offset},
      {offsetof(Header, file_size), g.file_size},
  };
}
constexpr uint64_t NameOffset(const Geometry& g, uint32_t index, size_t) {
  return g.records_offset + uint64_t{index} * kRecordSize + offsetof(Record, name);
}
constexpr uint64_t ExtraOffset(const Geometry& g, uint32_t index, size_t, size_t) {
  return g.records_offset + uint64_t{index} * kRecordSize + offsetof(Record, extra);
}

inline constexpr LayoutDescription kDescription = {
    .version = kLayoutVersion,
    .header_size = sizeof(Header),
    .record_size = kRecordSize,
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
               .departure = offsetof(Record, departure)},
    .geometry = GeometryFor,
    .header_words = HeaderWords,
    .name_offset = NameOffset,
    .extra_offset = ExtraOffset,
};

}  // namespace evermap::layout

#endif  // EVERMAP_REGISTRY_LAYOUT_H_
