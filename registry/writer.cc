#include "registry/writer.h"

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <cassert>
#include <optional>
#include <string_view>

#include "registry/base/clock.h"
#include "registry/chain.h"
#include "registry/departure.h"
#include "registry/layout.h"
#include "registry/occupancy.h"
#include "registry/record_text.h"
#include "registry/recovery.h"
#include "registry/siphash.h"
#include "registry/text_place.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Record;
using layout::Replace;
using layout::Store;
using layout::Word;
using Outcome = RegisterResult::Outcome;

// Looks at a record that another writer has claimed, before it sleeps between them.
constexpr uint32_t kYieldsMax = 64;

// Waits for the claimant of a record.
class Patience {
 public:
  // Waits for a moment; false when it has been long enough.
  bool Wait() {
    if (waits_++ < kYieldsMax) {
      sched_yield();
      return true;
    }
    if (waits_ > kYieldsMax + kClaimPatienceMs) return false;
    poll(nullptr, 0, 1);
    return true;
  }

 private:
  uint32_t waits_ = 0;
};

bool IsValidNode(const NodeRecord& node) {
  return !node.name.empty() && node.name.size() <= kRegistryNameSizeMax &&
         node.extra.size() <= kRegistryExtraSizeMax &&
         node.name.find('\0') == std::string_view::npos;
}

}  // namespace

Writer::Writer(Segment& segment, const WriterPlace& place)
    : segment_(segment), place_(place), slab_(segment, place), pool_(segment, place, slab_) {
  assert(segment.is_newest());
}

Writer::Found Writer::Find(uint64_t hash, std::string_view name) {
  ChainWalk<Segment> walk(segment_, segment_.BucketOf(hash));
  ChainStep step = walk.Next();
  for (; step == ChainStep::kRecord; step = walk.Next()) {
    Record& record = walk.record();
    const uint64_t state = Load(record.state);
    if (!HasName(segment_, walk.index(), hash, name)) continue;
    const Kind kind = layout::KindOf(state);
    // A retiring record has lost its name.
    if (kind == Kind::kRetiring) continue;
    // A remembered record is on its chain, so claiming it in this state checks that, too.
    if (kind == Kind::kRemembered) return {Found::Kind::kRemembered, walk.index(), state, 0, 0};
    const uint64_t id = Load(record.id);
    if (Load(record.state) != state || !walk.IsValid()) return {Found::Kind::kChanged};
    if (layout::IsFound(kind)) return {Found::Kind::kTaken, walk.index(), state, id, 0};
    if (kind == Kind::kClaimed && !SettleIfDead(segment_, place_, walk.index(), state)) {
      return {Found::Kind::kTaken, walk.index(), state, 0, 0};
    }
    return {Found::Kind::kChanged};
  }
  switch (step) {
    case ChainStep::kEnd:
      return {Found::Kind::kAbsent, 0, 0, 0, walk.head_value()};
    case ChainStep::kChanged:
      return {Found::Kind::kChanged};
    default:
      return {Found::Kind::kBroken};
  }
}

RegisterResult Writer::Register(const NodeRecord& node) {
  if (!IsValidNode(node)) return {Outcome::kInvalid};
  const uint64_t hash = HashName(segment_.hash_key(), node.name);
  Word& head = segment_.bucket(segment_.BucketOf(hash));
  RegisterResult result{Outcome::kFull};
  std::optional<RegisterResult> prepared;
  std::optional<uint32_t> fresh;
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const Found found = Find(hash, node.name);
    if (found.kind == Found::Kind::kChanged) continue;
    if (found.kind == Found::Kind::kBroken) break;
    if (found.kind == Found::Kind::kTaken) {
      result = {Outcome::kTaken, found.index, found.id, 0};
      break;
    }
    if (found.kind == Found::Kind::kRemembered) {
      const std::optional<RegisterResult> again = Reuse(found, node);
      if (!again.has_value()) continue;
      result = *again;
      break;
    }
    if (!fresh.has_value()) {
      prepared = Prepare(hash, node, fresh);
      if (!prepared.has_value()) break;
      // The chain may have changed meanwhile.
      continue;
    }
    Record& record = segment_.record(*fresh);
    // The creation is taken anew after each search: since the last one the name may have come, left
    // and been retired, which raised the floor (L-9).
    prepared->creation = FirstCreation();
    Store(record.address,
          layout::Address(prepared->creation, node.port, node.node_type, node.protocol));
    Store(record.next, layout::LinkLike(found.head, Load(record.next)));
    if (!Replace(head, found.head, layout::LinkTo(*fresh, found.head))) continue;
    MakeLive(*fresh);
    return *prepared;
  }
  if (fresh.has_value()) slab_.Release(*fresh);
  return result;
}

std::optional<RegisterResult> Writer::Reuse(const Found& found, const NodeRecord& node) {
  Record& record = segment_.record(found.index);
  const uint64_t claimed = layout::NextState(found.state, Kind::kClaimed, place_.number());
  if (!Replace(record.state, found.state, claimed)) return std::nullopt;
  if (!pool_.Provide(found.index, node.name.size(), node.extra.size())) {
    // Nothing was changed, the departure neither.
    Replace(record.state, claimed, layout::NextState(claimed, Kind::kRemembered));
    return RegisterResult{Outcome::kFull};
  }
  // A long name is in its block already, unless the segment is damaged.
  if (!layout::NameIsInline(node.name.size())) {
    StoreText(node.name, NameWords(segment_, found.index, node.name.size()));
  }
  // INV-5: the creation that the name had before, and one more.
  const uint32_t creation = layout::CreationOf(Load(record.address)) + 1;
  const RegisterResult result = Fill(found.index, node, std::max(creation, kCreationMin));
  MakeLive(found.index);
  return result;
}

std::optional<RegisterResult> Writer::Prepare(uint64_t hash, const NodeRecord& node,
                                              std::optional<uint32_t>& fresh) {
  fresh = slab_.Claim();
  if (!fresh.has_value()) return std::nullopt;
  if (!pool_.Provide(*fresh, node.name.size(), node.extra.size())) return std::nullopt;
  Store(segment_.record(*fresh).hash, hash);
  const RegisterResult result = Fill(*fresh, node, FirstCreation());
  StoreText(node.name, NameWords(segment_, *fresh, node.name.size()));
  return result;
}

RegisterResult Writer::Fill(uint32_t index, const NodeRecord& node, uint32_t creation) {
  Record& record = segment_.record(index);
  SetOccupied(segment_, index);
  uint64_t id = 0;
  do {
    id = segment_.header().next_id.fetch_add(1, std::memory_order_acq_rel) + 1;
  } while (id == 0);
  Store(record.id, id);
  Store(record.address, layout::Address(creation, node.port, node.node_type, node.protocol));
  Store(record.sizes, layout::Sizes(node.name.size(), node.extra.size(), node.highest_version,
                                    node.lowest_version));
  Store(record.connection_cookie, node.connection_cookie);
  Store(record.listener_cookie, node.listener_cookie);
  Store(record.user, layout::Halves(node.owner_uid, node.owner_pid));
  Store(record.since_unix_ns, static_cast<uint64_t>(UnixNs()));
  StoreText(node.extra, ExtraWords(segment_, index, node.name.size(), node.extra.size()));
  return {Outcome::kRegistered, index, id, creation};
}

void Writer::MakeLive(uint32_t index) {
  Word& state = segment_.record(index).state;
  Store(state, layout::NextState(Load(state), Kind::kLive));
  AnnounceChange(segment_);
}

uint32_t Writer::FirstCreation() const {
  const uint32_t now_s = static_cast<uint32_t>(UnixNs() / kNsPerSecond);
  const uint32_t floor = static_cast<uint32_t>(Load(segment_.header().creation_floor));
  return std::max({now_s, floor, kCreationMin});
}

bool Writer::Depart(uint32_t slot, uint64_t id, Departure departure) {
  if (slot >= segment_.high_water()) return false;
  const bool ends = departure == Departure::kUnregistered;
  Record& record = segment_.record(slot);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t state = Load(record.state);
    const Kind kind = layout::KindOf(state);
    if (!layout::IsFoundLive(kind) && !(ends && layout::IsFoundOrphaned(kind))) return false;
    const uint64_t held = Load(record.id);
    if (Load(record.state) != state) continue;
    if (held != id) return false;
    if (!StoreDeparture(segment_, slot, state)) continue;
    // A claimant still writes to the record, and does the rest (L-11).
    const uint64_t departed =
        layout::HasClaimant(kind)
            ? layout::NextState(state, ends ? Kind::kClaimed : Kind::kAdopting,
                                layout::ClaimantOf(state))
            : layout::NextState(state, ends ? Kind::kRemembered : Kind::kOrphaned);
    if (!Replace(record.state, state, departed)) continue;
    ClearIfVacant(segment_, slot);
    AnnounceChange(segment_);
    return true;
  }
  return false;
}

bool Writer::Unregister(uint32_t slot, uint64_t id) {
  return Depart(slot, id, Departure::kUnregistered);
}

bool Writer::Orphan(uint32_t slot, uint64_t id) { return Depart(slot, id, Departure::kOrphaned); }

std::optional<uint64_t> Writer::ClaimForAmendment(uint32_t slot, uint64_t id, bool only_orphaned) {
  if (slot >= segment_.high_water()) return std::nullopt;
  Record& record = segment_.record(slot);
  Patience patience;
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t state = Load(record.state);
    const Kind kind = layout::KindOf(state);
    if (!layout::IsFound(kind) || (only_orphaned && layout::IsFoundLive(kind))) return std::nullopt;
    const uint64_t held = Load(record.id);
    if (Load(record.state) != state) continue;
    if (held != id) return std::nullopt;
    if (layout::HasClaimant(kind)) {
      if (SettleIfDead(segment_, place_, slot, state)) continue;
      if (!patience.Wait()) return std::nullopt;
      continue;
    }
    const uint64_t claimed = layout::NextState(
        state, kind == Kind::kLive ? Kind::kAmending : Kind::kAdopting, place_.number());
    if (Replace(record.state, state, claimed)) return claimed;
  }
  return std::nullopt;
}

bool Writer::AwaitClaimant(uint32_t slot) {
  if (slot >= segment_.high_water()) return true;
  Word& state = segment_.record(slot).state;
  const uint64_t seen = Load(state);
  const Kind kind = layout::KindOf(seen);
  if (!layout::HasClaimant(kind) || layout::IsFound(kind)) return true;
  Patience patience;
  do {
    if (Load(state) != seen || SettleIfDead(segment_, place_, slot, seen)) return true;
  } while (patience.Wait());
  return false;
}

bool Writer::Adopt(uint32_t slot, uint64_t id, uint64_t connection_cookie) {
  const std::optional<uint64_t> claimed = ClaimForAmendment(slot, id, true);
  if (!claimed.has_value()) return false;
  Store(segment_.record(slot).connection_cookie, connection_cookie);
  const Kind ended = EndAmendment(segment_, slot, *claimed, Kind::kLive);
  if (!layout::IsFound(ended)) ClearIfVacant(segment_, slot);
  AnnounceChange(segment_);
  return ended == Kind::kLive;
}

bool Writer::Amend(uint32_t slot, uint64_t id, const Amendment& what) {
  const std::optional<uint64_t> claimed = ClaimForAmendment(slot, id, false);
  if (!claimed.has_value()) return false;
  Record& record = segment_.record(slot);
  if (what.listener_cookie.has_value()) Store(record.listener_cookie, *what.listener_cookie);
  const uint64_t user = Load(record.user);
  Store(record.user, layout::Halves(what.owner_uid.value_or(layout::LowHalf(user)),
                                    what.owner_pid.value_or(layout::HighHalf(user))));
  const Kind before = layout::KindOf(*claimed) == Kind::kAmending ? Kind::kLive : Kind::kOrphaned;
  if (layout::IsFound(EndAmendment(segment_, slot, *claimed, before))) return true;
  ClearIfVacant(segment_, slot);
  return false;
}

}  // namespace evermap
