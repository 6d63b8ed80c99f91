#include "registry/recovery.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <optional>
#include <string_view>

#include "registry/chain.h"
#include "registry/departure.h"
#include "registry/layout.h"
#include "registry/occupancy.h"
#include "registry/record_text.h"
#include "registry/text_place.h"
#include "registry/text_pool.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Record;
using layout::Replace;
using layout::Store;
using layout::Word;

// Times that other writers move an amended record on at most: to adopting, and to claimed (L-11).
constexpr int kMovesOfOthersMax = 2;

// Puts a record, which the caller has claimed in state `claimed`, back to what it was.
void PutBack(Segment& segment, uint32_t index, uint64_t claimed) {
  Record& record = segment.record(index);
  const uint32_t bucket = segment.BucketOf(Load(record.hash));
  switch (FindOnChain(segment, bucket, index)) {
    case ChainSearch::kLinked:
      // The record had this name before, or has just got it; either way the name is intact (L-3).
      StoreDeparture(segment, index, claimed);
      Replace(record.state, claimed, layout::NextState(claimed, Kind::kRemembered));
      break;
    case ChainSearch::kNotLinked:
      Replace(record.state, claimed, layout::NextState(claimed, Kind::kFree));
      break;
    case ChainSearch::kUnknown:
      break;  // A damaged segment: leave the record alone for good.
  }
}

}  // namespace

std::optional<std::string_view> IntactName(const Segment& segment, uint32_t index,
                                           NameBuffer& buffer) {
  const Record& record = segment.record(index);
  const size_t size = layout::NameSizeOf(Load(record.sizes));
  if (size == 0 || size > kRegistryNameSizeMax) return std::nullopt;
  CopyText(NameWords(segment, index, size), size, buffer.data());
  const std::string_view name(buffer.data(), size);
  if (HashName(segment.hash_key(), name) != Load(record.hash)) return std::nullopt;
  return name;
}

bool LinkUnlessKnown(Segment& segment, uint32_t index, std::string_view name) {
  Record& record = segment.record(index);
  const uint64_t hash = Load(record.hash);
  ChainWalk<const Segment> walk(segment, segment.BucketOf(hash));
  while (walk.Next() == ChainStep::kRecord) {
    if (!HasName(segment, walk.index(), hash, name)) continue;
    Record& known = segment.record(walk.index());
    if (layout::CreationOf(Load(known.address)) < layout::CreationOf(Load(record.address))) {
      Store(known.address, Load(record.address));
    }
    return false;
  }
  Store(record.next, layout::LinkLike(walk.head_value(), Load(record.next)));
  Store(segment.bucket(segment.BucketOf(hash)), layout::LinkTo(index, walk.head_value()));
  return true;
}

void RaiseCreationFloor(Segment& segment, uint32_t creation) {
  Word& floor = segment.header().creation_floor;
  uint64_t before = Load(floor);
  while (before <= creation &&
         !floor.compare_exchange_weak(before, uint64_t{creation} + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
  }
}

void AnnounceChange(Segment& segment) {
  segment.header().generation.fetch_add(1, std::memory_order_acq_rel);
}

Kind EndAmendment(Segment& segment, uint32_t index, uint64_t claimed, Kind target) {
  assert(layout::KindOf(claimed) == Kind::kAmending || layout::KindOf(claimed) == Kind::kAdopting);
  Record& record = segment.record(index);
  uint64_t state = claimed;
  for (int i = 0; i <= kMovesOfOthersMax; ++i) {
    if (Replace(record.state, state, layout::NextState(state, target))) return target;
    const uint64_t next = Load(record.state);
    if (layout::ClaimantOf(next) != layout::ClaimantOf(state) ||
        layout::VersionOf(next) <= layout::VersionOf(state)) {
      break;
    }
    if (layout::KindOf(next) == Kind::kAdopting) {
      target = Kind::kOrphaned;
    } else if (layout::KindOf(next) == Kind::kClaimed) {
      target = Kind::kRemembered;
    } else {
      break;
    }
    state = next;
  }
  return Kind::kFree;
}

namespace {

// Takes record `index` over from a dead claimant and settles it; false when its state has changed.
bool Settle(Segment& segment, const WriterPlace& place, uint32_t index, uint64_t seen) {
  Record& record = segment.record(index);
  const Kind kind = layout::KindOf(seen);
  const uint64_t claimed = layout::NextState(seen, kind, place.number());
  if (!Replace(record.state, seen, claimed)) return false;
  switch (kind) {
    case Kind::kClaimed:
      PutBack(segment, index, claimed);
      break;
    case Kind::kRetiring:
      if (TakeOffChain(segment, index)) {
        Replace(record.state, claimed, layout::NextState(claimed, Kind::kFree));
      }
      break;
    case Kind::kAmending:
      // The registration is as live as before: whether its connection outlived the writer is not
      // known here.
      EndAmendment(segment, index, claimed, Kind::kLive);
      break;
    default:
      // Adopting: the writer that holds the new connection, whose cookie the record may have by now,
      // can adopt it again.
      EndAmendment(segment, index, claimed, Kind::kOrphaned);
  }
  ClearIfVacant(segment, index);
  AnnounceChange(segment);
  return true;
}

// Sets the bit of record `index` right, as no writer that died has left it.
void SetOccupancyRight(Segment& segment, uint32_t index) {
  const uint32_t bit = 1u << (index % layout::kSlotsPerWord);
  const bool is_set = (OccupiedAmong(segment, index) & bit) != 0;
  const bool is_found = layout::IsFound(layout::KindOf(Load(segment.record(index).state)));
  // Only a damaged segment has one that is found and whose bit is not set.
  if (is_found && !is_set) SetOccupied(segment, index);
  if (!is_found && is_set) ClearIfVacant(segment, index);
}

}  // namespace

bool SettleIfDead(Segment& segment, const WriterPlace& place, uint32_t index, uint64_t seen) {
  assert(layout::HasClaimant(layout::KindOf(seen)));
  if (place.IsAlive(layout::ClaimantOf(seen))) return false;
  Settle(segment, place, index, seen);
  return true;
}

void SettleAll(Segment& segment, const WriterPlace& place) {
  // No place can be taken while the opening lock is held, so a dead writer's place stays one. The
  // claims of a writer that dies later are settled by any writer that meets them.
  enum class Life : uint8_t { kUnknown, kAlive, kDead };
  std::array<Life, kWritersMax> life = {};
  life[place.number()] = Life::kDead;
  const uint32_t slots = segment.high_water();
  for (uint32_t index = 0; index < slots; ++index) {
    // A writer that ends a registration which is being adopted leaves the record to the adopter
    // (L-11): then the state has changed, but its claimant is still the dead one.
    for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
      const uint64_t state = Load(segment.record(index).state);
      if (!layout::HasClaimant(layout::KindOf(state))) break;
      Life& claimant = life[layout::ClaimantOf(state)];
      if (claimant == Life::kUnknown) {
        claimant = place.IsAlive(layout::ClaimantOf(state)) ? Life::kAlive : Life::kDead;
      }
      if (claimant == Life::kAlive || Settle(segment, place, index, state)) break;
    }
    SetOccupancyRight(segment, index);
  }
  // A dead writer may have changed a registration without announcing it.
  AnnounceChange(segment);
}

void WriteBootId(const BootId& boot, Segment& segment) {
  // One of which a half is 0 is none (MayBeOneBoot()).
  Store(segment.header().boot_id[1], 0);
  Store(segment.header().boot_id[0], boot[0]);
  Store(segment.header().boot_id[1], boot[1]);
}

void RestartAfterReboot(Segment& segment, const BootId& boot) {
  for (uint32_t bucket = 0; bucket < segment.geometry().buckets; ++bucket) {
    Store(segment.bucket(bucket), layout::LinkLike(0, Load(segment.bucket(bucket))));
  }
  RestartSteadyTime(segment);
  NameBuffer buffer;
  const uint32_t slots = segment.high_water();
  for (uint32_t index = 0; index < slots; ++index) {
    Record& record = segment.record(index);
    const uint64_t state = Load(record.state);
    const bool used = layout::KindOf(state) != Kind::kFree;
    const std::optional<std::string_view> name =
        used ? IntactName(segment, index, buffer) : std::nullopt;
    Kind kind = Kind::kFree;
    if (name.has_value() && LinkUnlessKnown(segment, index, *name)) {
      if (layout::KindOf(state) != Kind::kRemembered) {
        Store(record.departure, NextDeparture(segment));
      }
      kind = Kind::kRemembered;
    }
    RestartBlock(segment, index, kind == Kind::kRemembered);
    Store(record.state, layout::NextState(state, kind));
    ClearIfVacant(segment, index);
  }
  AnnounceChange(segment);
  // The boot id is stored last, so that a restart that is cut short is done again.
  WriteBootId(boot, segment);
}

}  // namespace evermap
