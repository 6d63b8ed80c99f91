// The blocks for names and extras that do not fit into their records. There are few of them: the file
// gets more when three quarters of them belong to registrations. Otherwise a name that is only remembered is
// forgotten.
//
// Thread safety: all members may be called from any number of threads, while other processes do the
// same.
// Invariants: L-15 in layout.h.
#ifndef EVERMAP_REGISTRY_TEXT_POOL_H_
#define EVERMAP_REGISTRY_TEXT_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "registry/extents.h"
#include "registry/segment.h"
#include "registry/slab.h"
#include "registry/writer_place.h"

namespace evermap {

class TextPool {
 public:
  // REQUIRES: all outlive the object, `segment` has the newest layout and is mapped for writing, and
  // `place` is taken.
  TextPool(Segment& segment, const WriterPlace& place, Slab& slab);
  TextPool(const TextPool&) = delete;
  TextPool& operator=(const TextPool&) = delete;

  // Gives record `index` a block if a name and an extra of these sizes need one, and takes it away if
  // not; false when there is none to be had, which changes nothing. Keeps the block that the record
  // has, if that still belongs to it. REQUIRES: the caller has claimed the record.
  bool Provide(uint32_t index, size_t name_size, size_t extra_size);

 private:
  // Extents of blocks that are searched before the pool grows.
  static constexpr uint32_t kExtentsPerSearch = 8;

  bool Keep(uint32_t index, uint64_t block);
  // Sooner than by L-15 alone, since nobody takes a block of a record that is claimed.
  void GiveBack(uint32_t index, uint64_t block);
  // Takes a block for record `index`: one that belongs to none, or else that of the remembered name that left
  // longest ago. kNear: searches kExtentsPerSearch at most, and takes it from a name only if at least a
  // quarter of the blocks that were searched belong to such. Its number + 1; nothing when there is none.
  enum class Search : uint8_t { kNear, kAll };
  std::optional<uint64_t> Take(uint32_t index, Search search);
  // One search: the block that was taken, as it belonged to none, or that of the name; or neither.
  struct Candidate {
    uint64_t block = 0;  // its number + 1
    bool is_taken = false;
  };
  Candidate Find(uint32_t index, Search search);
  // Forgets the name that has the block, and takes that; false when another writer was faster.
  bool TakeFromName(uint32_t index, uint64_t block);
  // Whether the block belongs to the record that its owner word names.
  enum class Standing : uint8_t {
    kVacant,      // to none
    kRemembered,  // to a remembered name
    kHeld,        // to something else, or it is not known
  };
  Standing StandingOf(uint64_t block, uint64_t owner, uint64_t& state);

  Segment& segment_;
  const WriterPlace& place_;
  Slab& slab_;
  std::atomic<uint32_t> hand_{0};  // the extent in which a block was found last
};

// Sets right whose the block of record `index` is when all that was live has become remembered or free: a
// file on a disk may have kept only a part of the last changes. REQUIRES: nobody else writes to the
// segment; a remembered name is intact.
void RestartBlock(Segment& segment, uint32_t index, bool is_remembered);

// The same as Provide() for a segment to which nobody else writes, and in which blocks are only given out, in their
// order. `next` is 0 at first. REQUIRES: the record has no block.
bool ProvideNext(Segment& segment, uint32_t index, size_t name_size, size_t extra_size,
                 uint64_t& next);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_TEXT_POOL_H_
