// The slab of records: a record for a name that has none yet. Records that were never used come
// first, and are given memory as they are; then those whose name left longest ago are recycled.
//
// Thread safety: all members may be called from any number of threads, while other processes do the
// same. What the object remembers of the slab may be out of date, and is checked when it is used.
// Invariants: L-1, L-8, L-9 in layout.h.
#ifndef EVERMAP_REGISTRY_SLAB_H_
#define EVERMAP_REGISTRY_SLAB_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "registry/segment.h"
#include "registry/writer_place.h"

namespace evermap {

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

 private:
  // Recycling candidates found by one pass over the slab, so that a full registry is not searched
  // for each new name.
  static constexpr uint32_t kCandidatesMax = 256;

  std::optional<uint32_t> ClaimUnused();
  std::optional<uint32_t> ClaimRecycled();
  // Claims a record that is free; false when it is not.
  bool ClaimFree(uint32_t index, uint64_t state);
  // Claims a remembered record and takes it off its chain (L-9); false when its state has changed.
  bool Retire(uint32_t index, uint64_t state);
  void FindCandidates();
  uint64_t Claimed(uint64_t before) const;

  Segment& segment_;
  const WriterPlace& place_;
  // Records below this have memory, as far as this process knows.
  std::atomic<uint32_t> committed_{0};
  // Records that a pass over the slab found free or remembered longest, oldest first: index (24
  // bits) and low bits of the state's version.
  std::array<std::atomic<uint64_t>, kCandidatesMax> candidates_ = {};
  std::atomic<uint32_t> candidates_taken_{kCandidatesMax};
  // The generation at which the slab was found to have nothing to recycle; ~0: never.
  std::atomic<uint64_t> full_generation_{~uint64_t{0}};
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SLAB_H_
