// The words of a registry segment and what is put into them: states, links, addresses, sizes. All
// layouts so far (layout.h, layout_v1.h) use these encodings; where words lie is each layout's own.
// A layout that needs another encoding brings it along, and this one stays as it is for the files
// that have it.
//
// Thread safety: every word is a 64-bit atomic, loaded with acquire and stored with release order.
#ifndef EVERMAP_REGISTRY_LAYOUT_WORDS_H_
#define EVERMAP_REGISTRY_LAYOUT_WORDS_H_

#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>

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

// A load sees all that its writer stored before the value that it finds.
inline uint64_t Load(const Word& word) { return word.load(std::memory_order_acquire); }
inline void Store(Word& word, uint64_t value) { word.store(value, std::memory_order_release); }
// Replaces `expected` by `value`; false when the word held something else, which then stays.
inline bool Replace(Word& word, uint64_t expected, uint64_t value) {
  return word.compare_exchange_strong(expected, value, std::memory_order_acq_rel,
                                      std::memory_order_acquire);
}

// "EVERMAP" and a newline, as a little-endian number: a text-mode copy would change it.
inline constexpr uint64_t kMagic = 0x0a50414d52455645;
inline constexpr size_t kPageSize = 4096;

// Words that lie at the same place in the header of every layout, also of future ones (L-13): byte
// offsets.
inline constexpr size_t kMagicAt = 0;
inline constexpr size_t kVersionAt = 8;       // low half: layout version; high half: header's bytes
inline constexpr size_t kSupersededAt = 120;  // not 0: a newer file has taken this one's name
// Four words that say whose registry it is (owner.h); 0 in files from before that was known.
inline constexpr size_t kOwnerAt = 128;
// Every header has at least this size, in bytes.
inline constexpr size_t kHeaderSizeMin = kPageSize;

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

// Kinds of state. Those with a claimant (L-1) are marked with *.
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
constexpr bool HasClaimant(Kind kind) {
  return kind == Kind::kClaimed || kind == Kind::kRetiring || kind == Kind::kAdopting ||
         kind == Kind::kAmending;
}
// Whether a lookup finds a record of this kind, as live or as orphaned.
constexpr bool IsFoundLive(Kind kind) { return kind == Kind::kLive || kind == Kind::kAmending; }
constexpr bool IsFoundOrphaned(Kind kind) {
  return kind == Kind::kOrphaned || kind == Kind::kAdopting;
}
constexpr bool IsFound(Kind kind) { return IsFoundLive(kind) || IsFoundOrphaned(kind); }

// State word: version (48 bits), claimant (8), kind (8). The claimant is the number of a writer's
// place, 0 also where there is none.
constexpr uint64_t State(uint64_t version, uint32_t claimant, Kind kind) {
  return (version << 16) | (uint64_t{claimant & 0xff} << 8) | static_cast<uint64_t>(kind);
}
constexpr Kind KindOf(uint64_t state) { return static_cast<Kind>(state & 0xff); }
constexpr uint32_t ClaimantOf(uint64_t state) { return static_cast<uint32_t>((state >> 8) & 0xff); }
constexpr uint64_t VersionOf(uint64_t state) { return state >> 16; }
constexpr uint64_t NextState(uint64_t state, Kind kind, uint32_t claimant = 0) {
  return State(VersionOf(state) + 1, claimant, kind);
}

// Link: record index + 1 (32 bits; 0: end of the chain), tag (31), mark (1).
constexpr uint64_t kLinkMark = 1;
constexpr bool IsMarked(uint64_t link) { return (link & kLinkMark) != 0; }
constexpr bool IsEnd(uint64_t link) { return (link >> 32) == 0; }
// REQUIRES: !IsEnd(link). The result is not checked against the capacity.
constexpr uint32_t IndexOf(uint64_t link) {
  assert(!IsEnd(link));
  return static_cast<uint32_t>(link >> 32) - 1;
}
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

// Sizes of name and extra in bytes, and the versions of the distribution protocol.
constexpr uint64_t Sizes(size_t name_size, size_t extra_size, uint16_t highest, uint16_t lowest) {
  return (uint64_t{name_size} & 0xffff) | ((uint64_t{extra_size} & 0xffff) << 16) |
         (uint64_t{highest} << 32) | (uint64_t{lowest} << 48);
}
constexpr size_t NameSizeOf(uint64_t sizes) { return sizes & 0xffff; }
constexpr size_t ExtraSizeOf(uint64_t sizes) { return (sizes >> 16) & 0xffff; }

// Two 32-bit numbers as one word.
constexpr uint64_t Halves(uint32_t low, uint32_t high) {
  return uint64_t{low} | (uint64_t{high} << 32);
}
constexpr uint32_t LowHalf(uint64_t word) { return static_cast<uint32_t>(word); }
constexpr uint32_t HighHalf(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

// Layouts that grow do so in extents (extents.h). One begins with a page of words about it, of which
// the first says what follows the page; it is changed once, from kNone.
enum class ExtentUse : uint8_t {
  kNone = 0,
  kRecords = 1,
  kBlocks = 2,  // of text
};
inline constexpr size_t kExtentHeadSize = kPageSize;

// Word of occupancy: version (32 bits), one bit for each of 32 records (L-14).
inline constexpr uint32_t kSlotsPerWord = 32;
constexpr uint32_t BitsOf(uint64_t word) { return static_cast<uint32_t>(word); }
constexpr uint64_t NextBits(uint64_t word, uint32_t bits) {
  return (((word >> 32) + 1) << 32) | bits;
}

// Word of a block's owner: version (32 bits), index of the record + 1 (32; 0: none) (L-15).
constexpr uint64_t NextOwner(uint64_t word, uint32_t record_plus_1) {
  return (((word >> 32) + 1) << 32) | record_plus_1;
}

// Largest number of turns of a loop that depends on what other writers do. A turn is lost only to a
// change that another writer completed, so nothing but a damaged segment reaches it (INV-6).
inline constexpr uint32_t kRestartsMax = 1u << 16;

}  // namespace evermap::layout

#endif  // EVERMAP_REGISTRY_LAYOUT_WORDS_H_
