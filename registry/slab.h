// The slab of records: a record for a name that has none yet, in a bounded number of steps.
//
// Names that left are remembered, so that they do not get a creation that they had (L-9), but no more
// of them than names are registered, or kRememberedMin. Up to then new names get records that were
// never used. From then on a hand, which goes round over the records, recycles: of those before it
// the one whose name left longest ago.
//
// Thread safety: all members may be called from any number of threads, while other processes do the
// same. Where the hand is, and how many records it has found occupied, is known to each process for
// itself, and may be wrong: that costs order and nothing else.
// Invariants: L-1, L-8, L-9 in layout.h.
#ifndef EVERMAP_REGISTRY_SLAB_H_
#define EVERMAP_REGISTRY_SLAB_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "registry/segment.h"
#include "registry/writer_place.h"

namespace evermap {

// As many names as have left are remembered at least, if the registry's capacity allows. The stock epmd
// remembers 1,000.
inline constexpr uint32_t kRememberedMin = 4096;

class Slab {
 public:
  // REQUIRES: both outlive the object, `segment` has the newest layout and is mapped for writing,
  // and `place` is taken.
  Slab(Segment& segment, const WriterPlace& place);
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // A record that the caller has claimed in state `claimed` and that is on no chain; nothing when
  // all are in use or there is no memory for one.
  std::optional<uint32_t> Claim();
  // Gives a record back that was claimed and not used. REQUIRES: the caller is its claimant, in
  // state `claimed`, and it is on no chain.
  void Release(uint32_t index);
  // Forgets the name of record `index`, if it is still in `state`, which is remembered.
  void Forget(uint32_t index, uint64_t state);

 private:
  // Slots that the hand moves over at a time: two words of occupancy.
  static constexpr uint32_t kSlotsPerMove = 64;

  // Moves the hand on; the first slot of those that it has left behind, below `used`.
  uint32_t MoveHand(uint32_t used);
  // Whether a name more may be remembered than are now, when `used` records have been used.
  bool MayRememberMore(uint32_t used) const;
  std::optional<uint32_t> ClaimUnused();
  // Claims a record that is free or remembered: of the slots from `first` on, or, if these are all
  // occupied, of the next ones that are not, all round.
  std::optional<uint32_t> ClaimVacant(uint32_t first, uint32_t used);
  // Likewise among the slots of one move of the hand; but looks only at those whose bit is not in
  // `occupied`, if it is not told to look at all.
  enum class Look : uint8_t { kAtAll, kAtVacant };
  std::optional<uint32_t> ClaimAmong(uint32_t first, uint32_t end, Look look);
  // Among these slots the record whose name left longest ago, or one that was free and is claimed now.
  struct Oldest {
    std::optional<uint32_t> index = {};
    uint64_t state = 0;
    bool is_claimed = false;
  };
  Oldest FindOldest(uint32_t first, uint32_t end, Look look);
  // State of a record, after what a dead claimant left in it has been settled.
  uint64_t SettledState(uint32_t index);
  // Claims a record that is free; false when it is not.
  bool ClaimFree(uint32_t index, uint64_t state);
  // Claims a remembered record and takes it off its chain (L-9); false when its state has changed.
  bool Retire(uint32_t index, uint64_t state);
  uint64_t Claimed(uint64_t before) const;

  Segment& segment_;
  const WriterPlace& place_;
  std::atomic<uint32_t> hand_{0};      // the next slot; a multiple of kSlotsPerMove
  std::atomic<uint32_t> occupied_{0};  // bits that the hand has met set, on its last way round
  std::atomic<uint32_t> counting_{0};  // and on this one, so far
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SLAB_H_
