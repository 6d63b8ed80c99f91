#include "registry/recovery.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <optional>
#include <string_view>

#include "registry/base/clock.h"
#include "registry/chain.h"
#include "registry/layout.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Record;
using layout::Replace;
using layout::Store;
using layout::Word;

// Times that others move an amended record on at most: to adopting, and to claimed (L-11).
constexpr int kMovesOfOthersMax = 2;

// Puts a claimed record, which the caller owns in state `claimed`, back to what it was.
void PutBack(Segment& segment, uint32_t index, uint64_t claimed) {
  Record& record = segment.record(index);
  const uint32_t bucket = segment.BucketOf(Load(record.hash));
  switch (FindOnChain(segment, bucket, index)) {
    case ChainSearch::kLinked:
      // It had this name before, or has just got it; either way the name is intact (L-3).
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
  const Word* words = NameWords(segment, index, size);
  for (size_t i = 0; i < layout::TextWords(size); ++i) {
    const uint64_t word = Load(words[i]);
    std::memcpy(buffer.data() + i * 8, &word, 8);
  }
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

uint64_t NextDeparture(Segment& segment) {
  const uint64_t now_ns = UnixNs();
  Word& last = segment.header().last_departure;
  uint64_t before = Load(last);
  uint64_t next = 0;
  do {
    next = std::max(before + 1, now_ns);
  } while (!last.compare_exchange_weak(before, next, std::memory_order_acq_rel,
                                       std::memory_order_acquire));
  return next;
}

bool StoreDeparture(Segment& segment, uint32_t index, uint64_t state) {
  Record& record = segment.record(index);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t before = Load(record.departure);
    if (Load(record.state) != state) return false;
    if (Replace(record.departure, before, NextDeparture(segment))) return true;
  }
  return false;
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

Kind EndAmendment(Segment& segment, uint32_t index, uint64_t owned, Kind target) {
  Record& record = segment.record(index);
  uint64_t state = owned;
  for (int i = 0; i <= kMovesOfOthersMax; ++i) {
    if (Replace(record.state, state, layout::NextState(state, target))) return target;
    const uint64_t next = Load(record.state);
    if (layout::OwnerOf(next) != layout::OwnerOf(state) ||
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

// Takes record `index` over from a dead owner and settles it; false when its state has changed.
bool Settle(Segment& segment, const WriterSlot& writer, uint32_t index, uint64_t seen) {
  Record& record = segment.record(index);
  const Kind kind = layout::KindOf(seen);
  const uint64_t owned = layout::NextState(seen, kind, writer.number());
  if (!Replace(record.state, seen, owned)) return false;
  switch (kind) {
    case Kind::kClaimed:
      PutBack(segment, index, owned);
      break;
    case Kind::kRetiring:
      if (TakeOffChain(segment, index)) {
        Replace(record.state, owned, layout::NextState(owned, Kind::kFree));
      }
      break;
    case Kind::kAmending:
      // As live as before: whether its connection outlived the writer is not for us to say.
      EndAmendment(segment, index, owned, Kind::kLive);
      break;
    default:
      // Adopting: who holds the connection, whose cookie the record may have, can adopt it again.
      EndAmendment(segment, index, owned, Kind::kOrphaned);
  }
  AnnounceChange(segment);
  return true;
}

}  // namespace

bool SettleIfDead(Segment& segment, const WriterSlot& writer, uint32_t index, uint64_t seen) {
  if (writer.IsAlive(layout::OwnerOf(seen))) return false;
  Settle(segment, writer, index, seen);
  return true;
}

void SettleAll(Segment& segment, const WriterSlot& writer) {
  // Nobody can take a place meanwhile, so who is dead stays dead. Who dies later is settled by
  // whoever meets its claims.
  enum class Life : uint8_t { kUnknown, kAlive, kDead };
  std::array<Life, kWritersMax> life = {};
  life[writer.number()] = Life::kDead;
  const uint32_t slots = segment.high_water();
  for (uint32_t index = 0; index < slots; ++index) {
    // Who unregisters a record that is being adopted leaves it to the adopter: then it has changed,
    // but is still the dead one's.
    for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
      const uint64_t state = Load(segment.record(index).state);
      if (!layout::IsOwned(layout::KindOf(state))) break;
      Life& owner = life[layout::OwnerOf(state)];
      if (owner == Life::kUnknown) {
        owner = writer.IsAlive(layout::OwnerOf(state)) ? Life::kAlive : Life::kDead;
      }
      if (owner == Life::kAlive || Settle(segment, writer, index, state)) break;
    }
  }
  // The dead may have changed something without saying so.
  AnnounceChange(segment);
}

void RestartAfterReboot(Segment& segment, const BootId& boot) {
  for (uint32_t bucket = 0; bucket < segment.geometry().buckets; ++bucket) {
    Store(segment.bucket(bucket), layout::LinkLike(0, Load(segment.bucket(bucket))));
  }
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
    Store(record.state, layout::NextState(state, kind));
  }
  AnnounceChange(segment);
  // Last, so that what is cut short is done again.
  Store(segment.header().boot_id[0], boot[0]);
  Store(segment.header().boot_id[1], boot[1]);
}

}  // namespace evermap
