// The newest layout of a registry segment: what lies where, and the rules by which writers change it.
//
//   0            header, one page
//   4,096        counters, 256 x 1,024 bytes
//   266,240      bucket heads, one 64-bit link each; a power of two, at most 65,536
//   ...          extents, 69,632 bytes each: a page about the extent, then 256 records of 256 bytes,
//                or 32 blocks of 2,048 bytes for texts that do not fit into their record
//
// The file grows by an extent when one is needed (extents.h), so it is as large as what is used, and
// has no holes: nobody who reads it makes it take more memory.
//
// Thread safety: every word is a 64-bit atomic, loaded with acquire and stored with release order.
//
// Promises (docs/architecture.md):
//   INV-1  A lookup takes no lock, makes no system call, writes nothing, and never returns a
//          mixture of two registrations.
//   INV-2  Any number of threads and processes write at once; one winner for each name.
//   INV-3  A writer may be killed at any instruction: nobody waits for it, at most its own
//          half-done operation is lost.
//   INV-4  Ids are unique for the life of the segment; an operation on one id never touches
//          another.
//   INV-5  The creation of a name differs from those it had before.
//   INV-6  A segment is never trusted: a damaged one gives wrong answers or errors, but no crash,
//          no hang, and no access outside the mapping.
//   INV-7  The layout has a version; an older one is migrated (migration.h), a newer one is left
//          untouched.
//
// Rules that keep them. The claimant of a record is the writer whose place its state word names.
//   L-1  A record's state word is {version, claimant, kind}, and each change of it raises the
//        version. Only the writer that moved it to a claimed kind (claimed, retiring, amending,
//        adopting) writes the record's other words, until it moves the state on. The exception is
//        `departure` (L-7).
//        Otherwise two writers could fill one record at once, and the registration that becomes
//        visible would be a mixture of both (INV-1, INV-2).
//   L-2  Readers copy a record between two loads of its state word and keep the copy only if both
//        are equal. Payload is loaded with acquire and stored with release order, so a reader that
//        saw a word of a later claimant also sees that claimant's state word.
//        With weaker orders both loads could be equal around words of two registrations, and a
//        lookup would return a port with another node's creation (INV-1).
//   L-3  hash, name size and name of a record do not change while it is linked in a chain. The
//        place of the name depends on its size and the record's block alone; a record whose name
//        is in its block keeps that.
//        Otherwise a walk that compares names could pass over a name that is there, and a second
//        record would get it (INV-2).
//   L-4  A link is {index, tag, mark}. Each change of a link raises its tag. A marked `next` means
//        that its record is being taken out; only its claimant marks it, and it does not change
//        again until the record is off its chain.
//        Without tags a compare-and-swap would succeed on a link that had been changed and changed
//        back; without marks a record could be linked behind one that leaves, and leave with it.
//   L-5  Records are linked only at the head of their chain, by compare-and-swap on the head as it
//        was when the chain was searched for the name. So at most one record that is not retiring
//        has a given name.
//        A record linked elsewhere would escape a search that has passed that place: two winners of
//        one name (INV-2).
//   L-6  A walk along a chain checks, after looking at a record, that the link which led to it is
//        unchanged: then the record was on this chain all the while, and its `next` belongs to it.
//        Otherwise a walk could follow a recycled record into another chain, and report a name as
//        absent that is there.
//   L-7  `departure` is stored, by compare-and-swap, before the state word says that the
//        registration is orphaned or remembered. Its values grow and never repeat, so a writer that
//        comes late cannot overwrite a later one.
//        Stored after it, the time would be missing when the writer dies in between: an orphan would
//        seem to have waited since long ago and be given up, and a name that has just left would be
//        recycled first.
//   L-8  The claimant in a state word is a writer's place (writer_place.h), which the kernel gives
//        back when its process dies. Any writer may take over the record of a dead claimant by
//        moving the state word to itself. A place is given to a new writer only after the claims of
//        the one before have been settled.
//        Were the place given away earlier, those claims would seem to belong to a living writer,
//        and their names could not be registered again (INV-3).
//   L-9  Before a record is retired the creation floor is raised above its creation, and a new
//        name's creation is never below the floor.
//        A name whose record is recycled is forgotten; without the floor it could come back with a
//        creation that it had before (INV-5).
//   L-10 Numbers read from the segment are clamped or checked before they are used; offsets and
//        capacity are checked once, at open, and then kept in private memory.
//        A damaged or hostile file would otherwise lead a reader outside the mapping (INV-6).
//   L-11 A writer that amends or adopts a registration claims its record, but lookups go on to find
//        the registration, and other writers may orphan or unregister it meanwhile. They do so by
//        leaving a message in the state word, which keeps its claimant: `adopting` says "it has been
//        orphaned", `claimed` says "it has been unregistered". The claimant, or the writer that
//        settles a dead claimant, ends its work by the kind that it then finds:
//          amending -> live      adopting -> orphaned      claimed -> remembered
//        The one exception is a living adopter, which ends with adopting -> live.
//        If others moved the state past the claimant instead, the record could be registered anew
//        while the claimant still writes to it: the amendment of one registration would end in
//        another (INV-4).
//   L-12 A note (StatusNote) is kept in several copies, each with a checksum over its number and
//        words. Writers take numbers and write the copies in turn; readers take the valid copy with
//        the highest number. So nobody waits for a writer that died half-way: the copy before its
//        own still holds.
//        With one copy, a death in the middle would leave no status at all (INV-3).
//   L-13 The header has at least a page, and magic, layout version, `superseded` and `owner` are at
//        the same place in all layouts, also in future ones (layout_words.h).
//        An older program could otherwise not tell a newer registry from a damaged one, nor tell
//        its readers that it took a migration back (INV-7).
//   L-14 A word of occupancy has a bit for each of 32 records, and a version. Who has claimed a record
//        to register a name sets its bit before the state becomes live, and raises the version even
//        if the bit was set. Who clears one loads the word, then the record's state, and clears the
//        bit by compare-and-swap, and only if the state was free or remembered.
//        So a bit may be set without need, but a clear one never hides a registration. Without the
//        version the bit of a record that was registered between the two loads would be cleared:
//        the node would be missing in every list (P11).
//   L-15 A block belongs to the record that its owner word names if that record names the block, and
//        is claimed, live or orphaned, or remembered with its name in the block. Whoever takes a
//        block, also one that its record has, does it by compare-and-swap on the owner word, which
//        raises its version, after claiming the record that is to have it and after seeing that the
//        block belongs to none.
//        So nothing has to be given back: what a dead writer took, and what an ended registration
//        had beside its name, belongs to none. Without the version two records could have one block.
#ifndef EVERMAP_REGISTRY_LAYOUT_H_
#define EVERMAP_REGISTRY_LAYOUT_H_

#include <algorithm>
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

// What this code writes. What it can read beside it: former_layouts.h.
inline constexpr uint32_t kLayoutVersion = 3;

inline constexpr size_t kRecordSize = 256;
inline constexpr size_t kBlockSize = 2048;
inline constexpr size_t kInlineWords = 20;
inline constexpr size_t kBlockTextWords = 128;  // for 1,020 bytes
static_assert(kBlockTextWords * 8 >= kRegistryNameSizeMax);
static_assert(kBlockTextWords * 8 >= kRegistryExtraSizeMax);
inline constexpr uint32_t kExtentRecords = 256;
inline constexpr uint32_t kExtentBlocks = 32;
inline constexpr size_t kExtentSize = kExtentHeadSize + kExtentRecords * kRecordSize;
static_assert(kExtentSize == kExtentHeadSize + kExtentBlocks * kBlockSize);
// A registry with more names than this has longer chains: 512 KiB of heads are what a lookup among
// kRegistryCapacityDefault names is worth.
inline constexpr uint32_t kBucketsMax = 65'536;

// The words before `boot_id` are written once, before the file gets its name.
struct Header {
  Word magic;
  Word version_and_header_size;
  Word extents_offset;
  Word capacity_and_buckets;  // low half: capacity in records
  Word record_and_block_size;
  Word statistics_offset;
  Word buckets_offset;
  Word extent_size_and_max;
  Word records_and_blocks_of_extent;
  Word hash_key[2];
  Word created_unix_ns;
  Word fingerprint;  // hash of all words above (segment_header.cc)
  Word boot_id[2];   // of the boot in which the live registrations are live
  // Not 0: a newer file took this one's name, and readers should open the path anew.
  Word superseded;
  // Whose registry it is (owner.h). All zero in files from before that was known.
  Word owner[4];
  // Steady time (departure.h) is CLOCK_MONOTONIC of this boot and the first of these; with the second
  // added it is the time of day.
  Word steady_offset;
  Word shown_offset;
  // Not 0: the mapper touches the file after each change, so that a reader need not poll (watch.h).
  Word tells_changes;
  Word reserved_0[9];
  // Each of the counters has a cache line of its own.
  Word next_id;  // the last id given out
  Word reserved_1[7];
  Word generation;  // changes so far
  Word reserved_2[7];
  Word high_water;  // records used at least once
  Word reserved_3[7];
  Word creation_floor;  // no new name gets a creation below (L-9)
  Word reserved_4[7];
  Word last_departure;  // the last departure given out: steady time in ns, but always growing
  Word reserved_5[7];
  // All zero in files from before there was a status.
  StatusNote mapper;
  StatusNote upgrade;
  Word reserved_6[40];
};
static_assert(sizeof(Header) == kPageSize);
static_assert(offsetof(Header, magic) == kMagicAt);
static_assert(offsetof(Header, version_and_header_size) == kVersionAt);
static_assert(offsetof(Header, extents_offset) == 16);
static_assert(offsetof(Header, capacity_and_buckets) == 24);
static_assert(offsetof(Header, record_and_block_size) == 32);
static_assert(offsetof(Header, statistics_offset) == 40);
static_assert(offsetof(Header, buckets_offset) == 48);
static_assert(offsetof(Header, extent_size_and_max) == 56);
static_assert(offsetof(Header, records_and_blocks_of_extent) == 64);
static_assert(offsetof(Header, hash_key) == 72);
static_assert(offsetof(Header, created_unix_ns) == 88);
static_assert(offsetof(Header, fingerprint) == 96);
static_assert(offsetof(Header, boot_id) == 104);
static_assert(offsetof(Header, superseded) == kSupersededAt);
static_assert(offsetof(Header, owner) == kOwnerAt);
static_assert(offsetof(Header, steady_offset) == 160);
static_assert(offsetof(Header, shown_offset) == 168);
static_assert(offsetof(Header, tells_changes) == 176);
static_assert(offsetof(Header, next_id) == 256);
static_assert(offsetof(Header, generation) == 320);
static_assert(offsetof(Header, high_water) == 384);
static_assert(offsetof(Header, creation_floor) == 448);
static_assert(offsetof(Header, last_departure) == 512);
static_assert(offsetof(Header, mapper) == 576);
static_assert(offsetof(Header, upgrade) == 2176);

// What an extent begins with.
struct ExtentHead {
  Word use;  // ExtentUse
  Word reserved_0[7];
  Word occupancy[kExtentRecords / kSlotsPerWord];  // of an extent of records (L-14)
  Word block_owners[kExtentBlocks];                // of an extent of blocks (L-15)
  Word reserved_1[464];
};
static_assert(sizeof(ExtentHead) == kExtentHeadSize);
static_assert(offsetof(ExtentHead, occupancy) == 64);
static_assert(offsetof(ExtentHead, block_owners) == 128);

// One name and what is known of it. All zero: free.
struct Record {
  Word state;    // State()
  Word next;     // Link()
  Word hash;     // of the name, under the header's key
  Word id;       // of the registration
  Word address;  // Address()
  Word sizes;    // Sizes()
  Word connection_cookie;
  Word listener_cookie;
  Word user;  // of the process behind the connection; low half: uid, high half: pid
  Word since_unix_ns;
  Word departure;
  Word text_block;  // number of the block that the record has, + 1; 0: none (L-15)
  // The name, filled up with zeros to whole words, then the extra likewise; what does not fit is in
  // the record's block: see NameIsInline() and ExtraIsInline().
  Word text[kInlineWords];
};
static_assert(sizeof(Record) == kRecordSize);
static_assert(offsetof(Record, state) == 0);
static_assert(offsetof(Record, next) == 8);
static_assert(offsetof(Record, hash) == 16);
static_assert(offsetof(Record, id) == 24);
static_assert(offsetof(Record, address) == 32);
static_assert(offsetof(Record, sizes) == 40);
static_assert(offsetof(Record, connection_cookie) == 48);
static_assert(offsetof(Record, listener_cookie) == 56);
static_assert(offsetof(Record, user) == 64);
static_assert(offsetof(Record, since_unix_ns) == 72);
static_assert(offsetof(Record, departure) == 80);
static_assert(offsetof(Record, text_block) == 88);
static_assert(offsetof(Record, text) == 96);

struct TextBlock {
  Word name[kBlockTextWords];
  Word extra[kBlockTextWords];
};
static_assert(sizeof(TextBlock) == kBlockSize);
static_assert(offsetof(TextBlock, extra) == 1024);

constexpr size_t TextWords(size_t bytes) { return (bytes + 7) / 8; }
constexpr bool NameIsInline(size_t name_size) { return TextWords(name_size) <= kInlineWords; }
constexpr bool ExtraIsInline(size_t name_size, size_t extra_size) {
  return TextWords(name_size) + TextWords(extra_size) <= kInlineWords;
}
constexpr bool NeedsBlock(size_t name_size, size_t extra_size) {
  return !NameIsInline(name_size) || (extra_size > 0 && !ExtraIsInline(name_size, extra_size));
}

// REQUIRES: 1 <= capacity <= kRegistryCapacityMax.
constexpr Geometry GeometryFor(uint32_t capacity) {
  assert(capacity >= 1 && capacity <= kRegistryCapacityMax);
  Geometry g;
  g.version = kLayoutVersion;
  g.capacity = capacity;
  g.buckets = std::bit_ceil(std::min(capacity, kBucketsMax));
  g.statistics_offset = sizeof(Header);
  g.statistics_size = sizeof(WorkerStatistics);
  g.buckets_offset = RoundUpToPage(g.statistics_offset + kStatisticsWorkersMax * g.statistics_size);
  g.extents_offset = RoundUpToPage(g.buckets_offset + uint64_t{g.buckets} * sizeof(Word));
  g.extent_size = kExtentSize;
  g.extent_records = kExtentRecords;
  g.extent_blocks = kExtentBlocks;
  // A block for each record, if need be.
  g.extents_max = (capacity + kExtentRecords - 1) / kExtentRecords +
                  (capacity + kExtentBlocks - 1) / kExtentBlocks;
  g.file_size_min = g.extents_offset + g.extent_size;
  g.file_size_max = g.extents_offset + g.extents_max * g.extent_size;
  return g;
}
static_assert(GeometryFor(1).buckets_offset == 266240);

// What LayoutDescription asks for (layout_description.h).
inline std::vector<HeaderWord> HeaderWords(const Geometry& g) {
  return {
      {offsetof(Header, magic), kMagic},
      {offsetof(Header, version_and_header_size), Halves(g.version, sizeof(Header))},
      {offsetof(Header, extents_offset), g.extents_offset},
      {offsetof(Header, capacity_and_buckets), Halves(g.capacity, g.buckets)},
      {offsetof(Header, record_and_block_size), Halves(kRecordSize, kBlockSize)},
      {offsetof(Header, statistics_offset), g.statistics_offset},
      {offsetof(Header, buckets_offset), g.buckets_offset},
      {offsetof(Header, extent_size_and_max), Halves(kExtentSize, g.extents_max)},
      {offsetof(Header, records_and_blocks_of_extent), Halves(kExtentRecords, kExtentBlocks)},
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
    .header = {.capacity = offsetof(Header, capacity_and_buckets),
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
