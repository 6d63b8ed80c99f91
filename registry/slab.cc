#include "registry/slab.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <optional>

#include "registry/chain.h"
#include "registry/layout.h"
#include "registry/recovery.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Record;
using layout::Replace;
using layout::Store;
using layout::Word;

// Records that are given memory at a time: 256 KiB.
constexpr uint32_t kCommitRecords = 1024;

constexpr uint64_t kCandidateVersionBits = 40;
static_assert(kRegistryCapacityMax <= 1u << 24);

uint64_t CandidateOf(uint32_t index, uint64_t state) {
  return (uint64_t{index} << kCandidateVersionBits) |
         (layout::VersionOf(state) & ((uint64_t{1} << kCandidateVersionBits) - 1));
}

}  // namespace

Slab::Slab(Segment& segment, const WriterPlace& place) : segment_(segment), place_(place) {
  assert(segment.is_newest());
}

uint64_t Slab::Claimed(uint64_t before) const {
  return layout::NextState(before, Kind::kClaimed, place_.number());
}

std::optional<uint32_t> Slab::Claim() {
  if (std::optional<uint32_t> index = ClaimUnused()) return index;
  return ClaimRecycled();
}

std::optional<uint32_t> Slab::ClaimUnused() {
  Word& high_water = segment_.header().high_water;
  uint64_t used = Load(high_water);
  while (used < segment_.capacity()) {
    const uint32_t index = static_cast<uint32_t>(used);
    if (index >= committed_.load(std::memory_order_relaxed)) {
      const uint32_t first = index / kCommitRecords * kCommitRecords;
      const uint32_t end = std::min(first + kCommitRecords, segment_.capacity());
      if (!segment_.Commit(segment_.geometry().records_offset + uint64_t{first} * sizeof(Record),
                           uint64_t{end - first} * sizeof(Record))) {
        return std::nullopt;
      }
      committed_.store(end, std::memory_order_relaxed);
    }
    if (!high_water.compare_exchange_strong(used, used + 1, std::memory_order_acq_rel,
                                            std::memory_order_acquire)) {
      continue;
    }
    // A writer that recycles may have been faster, as the record is in the slab for all since then.
    if (ClaimFree(index, Load(segment_.record(index).state))) return index;
    used = Load(high_water);
  }
  return std::nullopt;
}

bool Slab::ClaimFree(uint32_t index, uint64_t state) {
  return layout::KindOf(state) == Kind::kFree &&
         Replace(segment_.record(index).state, state, Claimed(state));
}

bool Slab::Retire(uint32_t index, uint64_t state) {
  Record& record = segment_.record(index);
  const uint32_t creation = layout::CreationOf(Load(record.address));
  if (Load(record.state) != state) return false;
  RaiseCreationFloor(segment_, creation);  // L-9
  const uint64_t retiring = layout::NextState(state, Kind::kRetiring, place_.number());
  if (!Replace(record.state, state, retiring)) return false;
  // This fails only in a damaged segment: then no writer can use the record any more.
  if (!TakeOffChain(segment_, index)) return false;
  return Replace(record.state, retiring, Claimed(retiring));
}

std::optional<uint32_t> Slab::ClaimRecycled() {
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint32_t taken = candidates_taken_.fetch_add(1, std::memory_order_acq_rel);
    if (taken >= kCandidatesMax) {
      const uint64_t generation = Load(segment_.header().generation);
      if (full_generation_.load(std::memory_order_acquire) == generation) return std::nullopt;
      FindCandidates();
      continue;
    }
    const uint64_t candidate = candidates_[taken].load(std::memory_order_acquire);
    const uint32_t index = static_cast<uint32_t>(candidate >> kCandidateVersionBits);
    if (index >= segment_.capacity()) continue;
    const uint64_t state = Load(segment_.record(index).state);
    if (CandidateOf(index, state) != candidate) continue;
    if (ClaimFree(index, state)) return index;
    if (layout::KindOf(state) == Kind::kRemembered && Retire(index, state)) return index;
  }
  return std::nullopt;
}

// Several threads may do this at once: the candidates of both then lie mixed, which costs the strict
// order of age and nothing else.
void Slab::FindCandidates() {
  struct Old {
    uint64_t departure;  // 0: free
    uint64_t candidate;
    bool operator<(const Old& other) const { return departure < other.departure; }
  };
  std::array<Old, kCandidatesMax> oldest;  // a heap with the latest of them on top
  size_t count = 0;
  const uint64_t generation = Load(segment_.header().generation);
  const uint32_t slots = segment_.high_water();
  for (uint32_t index = 0; index < slots; ++index) {
    const Record& record = segment_.record(index);
    const uint64_t state = Load(record.state);
    const Kind kind = layout::KindOf(state);
    // A record that a dead writer has claimed is free or remembered once it is settled.
    if (layout::HasClaimant(kind)) SettleIfDead(segment_, place_, index, state);
    if (kind != Kind::kFree && kind != Kind::kRemembered) continue;
    const Old old{kind == Kind::kFree ? 0 : Load(record.departure), CandidateOf(index, state)};
    if (count == kCandidatesMax) {
      if (!(old < oldest[0])) continue;
      std::pop_heap(oldest.begin(), oldest.end());
      oldest.back() = old;
    } else {
      oldest[count++] = old;
    }
    std::push_heap(oldest.begin(), oldest.begin() + static_cast<std::ptrdiff_t>(count));
  }
  if (count == 0) {
    full_generation_.store(generation, std::memory_order_release);
    return;
  }
  std::sort_heap(oldest.begin(), oldest.begin() + static_cast<std::ptrdiff_t>(count));
  // At the end of the array, so that the number taken alone says when all are.
  const size_t first = kCandidatesMax - count;
  for (size_t i = 0; i < count; ++i) {
    candidates_[first + i].store(oldest[i].candidate, std::memory_order_release);
  }
  candidates_taken_.store(static_cast<uint32_t>(first), std::memory_order_release);
}

void Slab::Release(uint32_t index) {
  Word& state = segment_.record(index).state;
  Store(state, layout::NextState(Load(state), Kind::kFree));
  // Writers that found the registry full look again.
  AnnounceChange(segment_);
}

}  // namespace evermap
