#include "registry/slab.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <optional>

#include "registry/chain.h"
#include "registry/layout.h"
#include "registry/occupancy.h"
#include "registry/recovery.h"

namespace evermap {
namespace {

using layout::ExtentUse;
using layout::Kind;
using layout::Load;
using layout::Record;
using layout::Replace;
using layout::Store;
using layout::Word;

// Bits set from slot `first` on, which is the first of its word, in the words up to `end`.
uint32_t CountOccupied(const Segment& segment, uint32_t first, uint32_t end) {
  uint32_t count = 0;
  for (uint32_t slot = first; slot < end; slot += layout::kSlotsPerWord) {
    count += static_cast<uint32_t>(std::popcount(OccupiedAmong(segment, slot)));
  }
  return count;
}

}  // namespace

Slab::Slab(Segment& segment, const WriterPlace& place)
    : segment_(segment), place_(place), occupied_(CountOccupied(segment, 0, segment.high_water())) {
  assert(segment.is_newest());
}

uint64_t Slab::Claimed(uint64_t before) const {
  return layout::NextState(before, Kind::kClaimed, place_.number());
}

std::optional<uint32_t> Slab::Claim() {
  const uint32_t used = segment_.high_water();
  if (used == 0) return ClaimUnused();
  const uint32_t first = MoveHand(used);
  if (MayRememberMore(used)) {
    if (const std::optional<uint32_t> index = ClaimUnused()) return index;
  }
  if (const std::optional<uint32_t> index = ClaimVacant(first, used)) return index;
  return ClaimUnused();
}

uint32_t Slab::MoveHand(uint32_t used) {
  uint32_t hand = hand_.load(std::memory_order_relaxed);
  uint32_t first = 0;
  uint32_t next = 0;
  do {
    first = hand < used ? hand : 0;
    next = first + kSlotsPerMove < used ? first + kSlotsPerMove : 0;
  } while (!hand_.compare_exchange_weak(hand, next, std::memory_order_relaxed));
  counting_.fetch_add(CountOccupied(segment_, first, std::min(first + kSlotsPerMove, used)),
                      std::memory_order_relaxed);
  if (next == 0) {
    occupied_.store(counting_.exchange(0, std::memory_order_relaxed), std::memory_order_relaxed);
  }
  return first;
}

bool Slab::MayRememberMore(uint32_t used) const {
  const uint32_t occupied = std::min(occupied_.load(std::memory_order_relaxed), used);
  return used - occupied < std::max(kRememberedMin, occupied);
}

std::optional<uint32_t> Slab::ClaimUnused() {
  Word& high_water = segment_.header().high_water;
  uint64_t used = Load(high_water);
  while (used < segment_.capacity()) {
    const uint32_t index = static_cast<uint32_t>(used);
    if (!segment_.HasRecord(index)) {
      if (!segment_.extents().Add(ExtentUse::kRecords, Extents::Reserve::kKeep)) {
        return std::nullopt;
      }
      continue;
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

std::optional<uint32_t> Slab::ClaimVacant(uint32_t first, uint32_t used) {
  if (const auto index = ClaimAmong(first, std::min(first + kSlotsPerMove, used), Look::kAtAll)) {
    return index;
  }
  uint32_t at = first;
  do {
    at = at + kSlotsPerMove < used ? at + kSlotsPerMove : 0;
    if (const auto index = ClaimAmong(at, std::min(at + kSlotsPerMove, used), Look::kAtVacant)) {
      return index;
    }
  } while (at != first);
  return std::nullopt;
}

std::optional<uint32_t> Slab::ClaimAmong(uint32_t first, uint32_t end, Look look) {
  // A turn is lost only to a writer that registers the oldest name again, or recycles it itself.
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const Oldest oldest = FindOldest(first, end, look);
    if (oldest.is_claimed) return oldest.index;
    if (!oldest.index.has_value()) return std::nullopt;
    if (Retire(*oldest.index, oldest.state)) return oldest.index;
  }
  return std::nullopt;
}

Slab::Oldest Slab::FindOldest(uint32_t first, uint32_t end, Look look) {
  Oldest oldest;
  uint64_t oldest_departure = 0;
  for (uint32_t index = first; index < end; ++index) {
    const uint32_t bit = 1u << (index % layout::kSlotsPerWord);
    const uint32_t occupied = OccupiedAmong(segment_, index);
    if (look == Look::kAtVacant && occupied == ~0u) {
      index |= layout::kSlotsPerWord - 1;
      continue;
    }
    if (look == Look::kAtVacant && (occupied & bit) != 0) continue;
    const uint64_t state = SettledState(index);
    const Kind kind = layout::KindOf(state);
    if (kind != Kind::kFree && kind != Kind::kRemembered) continue;
    // A writer that has died left the bit.
    if ((occupied & bit) != 0) ClearIfVacant(segment_, index);
    if (ClaimFree(index, state)) return {.index = index, .is_claimed = true};
    const uint64_t departure = Load(segment_.record(index).departure);
    if (kind == Kind::kFree || (oldest.index.has_value() && departure >= oldest_departure)) {
      continue;
    }
    oldest = {.index = index, .state = state};
    oldest_departure = departure;
  }
  return oldest;
}

uint64_t Slab::SettledState(uint32_t index) {
  const Word& word = segment_.record(index).state;
  const uint64_t state = Load(word);
  if (!layout::HasClaimant(layout::KindOf(state))) return state;
  return SettleIfDead(segment_, place_, index, state) ? Load(word) : state;
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

void Slab::Release(uint32_t index) {
  Word& state = segment_.record(index).state;
  Store(state, layout::NextState(Load(state), Kind::kFree));
  ClearIfVacant(segment_, index);
}

void Slab::Forget(uint32_t index, uint64_t state) {
  assert(layout::KindOf(state) == Kind::kRemembered);
  if (Retire(index, state)) Release(index);
}

}  // namespace evermap
