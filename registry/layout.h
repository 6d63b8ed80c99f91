// The bytes of a registry segment: what lies where, and the rules by which writers change it.
//
//   0            header, one page
//   4,096        statistics, 256 x 1,024 bytes
//   266,240      bucket heads, one 64-bit link each; a power of two, at least the capacity
//   ...          records, 256 bytes each
//   ...          overflow blocks, 2,048 bytes each; block i belongs to record i
//
// The file is sparse: records are given memory in chunks as they are first used, and overflow
// blocks one by one, so a typical node costs 256 bytes and its 8 bytes of bucket.
//
// Thread safety: every word is a 64-bit atomic, loaded with acquire and stored with release order.
//
// Promises (design section 3):
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
// How they are kept:
//   L-1  A record's state word is {version, owner, state}. Each change of it raises the version.
//        Only who moved it to an owned state (claimed, retiring, amending, adopting) may write the
//        record's other words, until it moves it on. The exception is `departure` (L-7).
//   L-2  Readers copy a record between two loads of its state word and keep the copy only if both
//        are equal. Because payload is loaded with acquire and stored with release order, a reader
//        that saw a later owner's word also sees that owner's state word.
//   L-3  hash, name size and name of a record do not change while it is linked in a chain. The
//        place of the name depends on its size alone.
//   L-4  A link is {index, tag, mark}. Each change of a link raises its tag. A marked `next` means
//        that its record is being taken out; only its owner marks it, and it does not change again
//        until the record is off its chain.
//   L-5  Records are linked only at the head of their chain, by compare-and-swap on the head as it
//        was when the chain was searched for the name. So at most one record that is not retiring
//        has a given name.
//   L-6  Who walks a chain checks, after looking at a record, that the link which led to it is
//        unchanged: then the record was on this chain all the while, and its `next` belongs to it.
//   L-7  `departure` is stored, by compare-and-swap, before the state word says that the
//        registration is orphaned or remembered. Its values grow and never repeat, so a writer that
//        comes late cannot overwrite a later one.
//   L-8  The owner in a state word is a writer's place (writer_slot.h), which the kernel gives back
//        when its process dies. Anybody may take over the record of a dead owner by moving the
//        state word to itself. A place is given to a new writer only after the claims of the one
//        before have been settled.
//   L-9  Before a record is retired the creation floor is raised above its creation, and a new
//        name's creation is never below the floor.
//   L-10 Numbers read from the segment are clamped or checked before they are used; offsets and
//        capacity are checked once, at open, and then kept in private memory.
//   L-11 Who amends or adopts a registration owns its record meanwhile, yet lookups find it all the
//        while, and it can be orphaned and unregistered: the state word then moves on, with the
//        owner that it has, to what the owner has to bring it to (amending -> adopting -> claimed).
//        So the owner, or who settles its death, ends an amendment by going from amending to live,
//        from adopting to orphaned, and from claimed to remembered. Only an adopter that lives goes
//        from adopting to live.
//   L-12 A note (StatusNote) is kept in several copies, each with a checksum over its number and
//        words. Writers take numbers and write the copies in turn; readers take the valid copy with
//        the highest number. So nobody waits for a writer that died half-way: the copy before its
//        own still holds.
//   L-13 magic, layout version and `superseded` are at the same place in all layouts. The status
//        notes are at the same place in all that have been so far.
#ifndef EVERMAP_REGISTRY_LAYOUT_H_
#define EVERMAP_REGISTRY_LAYOUT_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "registry/counters.h"
#include "registry/registration.h"
#ifdef EVERMAP_CRASH_POINTS
#include "registry/crash_points.h"
#endif

namespace evermap::layout {

#ifdef EVERMAP_CRASH_POINTS
using Word = CrashPointWord;
#else
using Word = std::atomic<uint64_t>;
#endif
static_assert(sizeof(Word) == 8 && Word::is_always_lock_free);

// Who loads a word sees all that was stored before what it finds there.
inline uint64_t Load(const Word& word) { return word.load(std::memory_order_acquire); }
inline void Store(Word& word, uint64_t value) { word.store(value, std::memory_order_release); }
// Whether the word was as expected, and has the value now.
inline bool Replace(Word& word, uint64_t expected, uint64_t value) {
  return word.compare_exchange_strong(expected, value, std::memory_order_acq_rel,
                                      std::memory_order_acquire);
}

// "EVERMAP" and a newline, as a little-endian number: a text-mode copy would change it.
inline constexpr uint64_t kMagic = 0x0a50414d52455645;
// What this code writes. Version 1 had statistics of 512 bytes for each worker, and is built only
// for tests of the migration.
inline constexpr uint32_t kLayoutVersion = EVERMAP_LAYOUT_VERSION;
// What it can migrate, and read as it is, from.
inline constexpr uint32_t kLayoutVersionOldest = 1;
static_assert(kLayoutVersion == 1 || kLayoutVersion == 2);

inline constexpr size_t kPageSize = 4096;
inline constexpr size_t kRecordSize = 256;
inline constexpr size_t kOverflowSize = 2048;
inline constexpr size_t kInlineWords = 21;
inline constexpr size_t kOverflowTextWords = 128;  // for 1,020 bytes
static_assert(kOverflowTextWords * 8 >= kRegistryNameSizeMax);
static_assert(kOverflowTextWords * 8 >= kRegistryExtraSizeMax);

// A few words of status that are replaced as a whole (L-12).
inline constexpr size_t kStatusCopies = 3;
inline constexpr size_t kStatusWords = 62;
struct StatusCopy {
  Word number;  // 0: never written, or being written
  Word checksum;
  Word words[kStatusWords];  // what they mean: status.cc
};
struct StatusNote {
  Word last_number;  // the last that a writer took
  Word reserved[7];
  StatusCopy copies[kStatusCopies];  // number n is written to copy n % kStatusCopies
};
static_assert(sizeof(StatusNote) == 1600);

// The words before `boot_id` are written once, before the file gets its name.
struct Header {
  Word magic;
  Word version_and_header_size;  // low half: layout version
  Word file_size;
  Word capacity_and_buckets;  // low half: capacity in records
  Word record_and_overflow_size;
  Word statistics_offset;
  Word buckets_offset;
  Word records_offset;
  Word overflow_offset;
  Word hash_key[2];
  Word created_unix_ns;
  Word fingerprint;  // hash of all words above
  Word boot_id[2];   // of the boot in which the live registrations are live
  // Not 0: a newer file took this one's name, and readers should open the path anew.
  Word superseded;
  Word reserved_0[16];
  // Each of the counters has a cache line of its own.
  Word next_id;  // the last id given out
  Word reserved_1[7];
  Word generation;  // changes so far
  Word reserved_2[7];
  Word high_water;  // records used at least once
  Word reserved_3[7];
  Word creation_floor;  // no new name gets a creation below (L-9)
  Word reserved_4[7];
  Word last_departure;  // the last departure given out; from the clock, in ns, but always growing
  Word reserved_5[7];
  // All zero in files from before there was a status.
  StatusNote mapper;
  StatusNote upgrade;
  Word reserved_6[40];
};
static_assert(sizeof(Header) == kPageSize);
static_assert(offsetof(Header, magic) == 0);
static_assert(offsetof(Header, version_and_header_size) == 8);
static_assert(offsetof(Header, file_size) == 16);
static_assert(offsetof(Header, capacity_and_buckets) == 24);
static_assert(offsetof(Header, record_and_overflow_size) == 32);
static_assert(offsetof(Header, statistics_offset) == 40);
static_assert(offsetof(Header, buckets_offset) == 48);
static_assert(offsetof(Header, records_offset) == 56);
static_assert(offsetof(Header, overflow_offset) == 64);
static_assert(offsetof(Header, hash_key) == 72);
static_assert(offsetof(Header, created_unix_ns) == 88);
static_assert(offsetof(Header, fingerprint) == 96);
static_assert(offsetof(Header, boot_id) == 104);
static_assert(offsetof(Header, superseded) == 120);
static_assert(offsetof(Header, next_id) == 256);
static_assert(offsetof(Header, generation) == 320);
static_assert(offsetof(Header, high_water) == 384);
static_assert(offsetof(Header, creation_floor) == 448);
static_assert(offsetof(Header, last_departure) == 512);
static_assert(offsetof(Header, mapper) == 576);
static_assert(offsetof(Header, upgrade) == 2176);
// Words that `fingerprint` covers.
inline constexpr size_t kFingerprintWords = offsetof(Header, fingerprint) / 8;

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
  Word owner;  // low half: uid, high half: pid
  Word since_unix_ns;
  Word departure;
  // The name, filled up with zeros to whole words, then the extra likewise; what does not fit is in
  // the overflow block: see NameIsInline() and ExtraIsInline().
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
static_assert(offsetof(Record, owner) == 64);
static_assert(offsetof(Record, since_unix_ns) == 72);
static_assert(offsetof(Record, departure) == 80);
static_assert(offsetof(Record, text) == 88);

struct OverflowBlock {
  Word name[kOverflowTextWords];
  Word extra[kOverflowTextWords];
};
static_assert(sizeof(OverflowBlock) == kOverflowSize);
static_assert(offsetof(OverflowBlock, extra) == 1024);

constexpr size_t TextWords(size_t bytes) { return (bytes + 7) / 8; }
constexpr bool NameIsInline(size_t name_size) { return TextWords(name_size) <= kInlineWords; }
constexpr bool ExtraIsInline(size_t name_size, size_t extra_size) {
  return TextWords(name_size) + TextWords(extra_size) <= kInlineWords;
}
constexpr bool NeedsOverflow(size_t name_size, size_t extra_size) {
  return !NameIsInline(name_size) || (extra_size > 0 && !ExtraIsInline(name_size, extra_size));
}

// Kinds of state. Owned ones (L-1) are marked with *.
enum class Kind : uint8_t {
  kFree = 0,
  kClaimed = 1,     // * being written, or put back; on a chain or not yet
  kRetiring = 2,    // * being taken off its chain for another use; never goes back
  kLive = 3,        //
  kOrphaned = 4,    //
  kAdopting = 5,    // * orphaned, and being amended or getting a new connection (L-11)
  kRemembered = 6,  //
  kAmending = 7,    // * live, and being amended (L-11)
};
constexpr bool IsOwned(Kind kind) {
  return kind == Kind::kClaimed || kind == Kind::kRetiring || kind == Kind::kAdopting ||
         kind == Kind::kAmending;
}
// Whether a lookup finds it, as live or as orphaned.
constexpr bool IsFoundLive(Kind kind) { return kind == Kind::kLive || kind == Kind::kAmending; }
constexpr bool IsFoundOrphaned(Kind kind) {
  return kind == Kind::kOrphaned || kind == Kind::kAdopting;
}
constexpr bool IsFound(Kind kind) { return IsFoundLive(kind) || IsFoundOrphaned(kind); }

// State word: version (48 bits), owner (8), kind (8).
constexpr uint64_t State(uint64_t version, uint32_t owner, Kind kind) {
  return (version << 16) | (uint64_t{owner & 0xff} << 8) | static_cast<uint64_t>(kind);
}
constexpr Kind KindOf(uint64_t state) { return static_cast<Kind>(state & 0xff); }
constexpr uint32_t OwnerOf(uint64_t state) { return static_cast<uint32_t>((state >> 8) & 0xff); }
constexpr uint64_t VersionOf(uint64_t state) { return state >> 16; }
constexpr uint64_t NextState(uint64_t state, Kind kind, uint32_t owner = 0) {
  return State(VersionOf(state) + 1, owner, kind);
}

// Link: record index + 1 (32 bits; 0: end of the chain), tag (31), mark (1).
constexpr uint64_t kLinkMark = 1;
constexpr bool IsMarked(uint64_t link) { return (link & kLinkMark) != 0; }
constexpr bool IsEnd(uint64_t link) { return (link >> 32) == 0; }
// REQUIRES: !IsEnd(link). The result is not checked against the capacity.
constexpr uint32_t IndexOf(uint64_t link) { return static_cast<uint32_t>(link >> 32) - 1; }
// A link that replaces `old` and leads where `target` does.
constexpr uint64_t LinkLike(uint64_t target, uint64_t old, bool marked = false) {
  return (target & 0xffffffff00000000) | ((old + 2) & 0xfffffffe) | (marked ? kLinkMark : 0);
}
constexpr uint64_t LinkTo(uint32_t index, uint64_t old) {
  return LinkLike((uint64_t{index} + 1) << 32, old);
}

// Creation and port are one word, so that neither is ever seen without the other.
constexpr uint64_t Address(uint32_t creation, uint16_t port, uint8_t node_type, uint8_t protocol) {
  return uint64_t{creation} | (uint64_t{port} << 32) | (uint64_t{node_type} << 48) |
         (uint64_t{protocol} << 56);
}
constexpr uint32_t CreationOf(uint64_t address) { return static_cast<uint32_t>(address); }

constexpr uint64_t Sizes(size_t name_size, size_t extra_size, uint16_t highest, uint16_t lowest) {
  return (uint64_t{name_size} & 0xffff) | ((uint64_t{extra_size} & 0xffff) << 16) |
         (uint64_t{highest} << 32) | (uint64_t{lowest} << 48);
}
constexpr size_t NameSizeOf(uint64_t sizes) { return sizes & 0xffff; }
constexpr size_t ExtraSizeOf(uint64_t sizes) { return (sizes >> 16) & 0xffff; }

constexpr uint64_t Halves(uint32_t low, uint32_t high) {
  return uint64_t{low} | (uint64_t{high} << 32);
}
constexpr uint32_t LowHalf(uint64_t word) { return static_cast<uint32_t>(word); }
constexpr uint32_t HighHalf(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

// Where everything lies in a segment for `capacity` names.
struct Geometry {
  uint32_t version = 0;  // of the layout
  uint32_t capacity = 0;
  uint32_t buckets = 0;
  uint64_t statistics_offset = 0;
  uint64_t statistics_size = 0;  // of one worker
  uint64_t buckets_offset = 0;
  uint64_t records_offset = 0;
  uint64_t overflow_offset = 0;
  uint64_t file_size = 0;
};
constexpr uint64_t RoundUpToPage(uint64_t bytes) {
  return (bytes + kPageSize - 1) / kPageSize * kPageSize;
}
constexpr uint64_t StatisticsSize(uint32_t version) { return version == 1 ? 512 : 1024; }
static_assert(StatisticsSize(kLayoutVersion) == sizeof(WorkerStatistics));
// REQUIRES: 1 <= capacity <= kRegistryCapacityMax; `version` is a known one.
constexpr Geometry GeometryFor(uint32_t capacity, uint32_t version = kLayoutVersion) {
  Geometry g;
  g.version = version;
  g.capacity = capacity;
  g.buckets = std::bit_ceil(capacity);
  g.statistics_offset = sizeof(Header);
  g.statistics_size = StatisticsSize(version);
  g.buckets_offset = RoundUpToPage(g.statistics_offset + kStatisticsWorkersMax * g.statistics_size);
  g.records_offset = RoundUpToPage(g.buckets_offset + uint64_t{g.buckets} * sizeof(Word));
  g.overflow_offset = RoundUpToPage(g.records_offset + uint64_t{capacity} * kRecordSize);
  g.file_size = RoundUpToPage(g.overflow_offset + uint64_t{capacity} * kOverflowSize);
  return g;
}
static_assert(GeometryFor(1, 1).buckets_offset == 135168);
static_assert(GeometryFor(1, 2).buckets_offset == 266240);

// Bounds of the loops that depend on what other writers do. Each turn is lost only to a change
// that somebody else completed, so they are reached by nothing but a damaged segment (INV-6).
inline constexpr uint32_t kRestartsMax = 1u << 16;

}  // namespace evermap::layout

#endif  // EVERMAP_REGISTRY_LAYOUT_H_
