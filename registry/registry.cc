#include "registry/registry.h"

#include <poll.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "registry/base/clock.h"
#include "registry/base/path.h"
#include "registry/base/text.h"
#include "registry/chain.h"
#include "registry/counters.h"
#include "registry/layout.h"
#include "registry/migration.h"
#include "registry/reader.h"
#include "registry/recovery.h"
#include "registry/segment.h"
#include "registry/siphash.h"
#include "registry/writer_place.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Record;
using layout::Replace;
using layout::Store;
using layout::Word;
using Outcome = RegisterResult::Outcome;

// Records that are given memory at a time: 256 KiB.
constexpr uint32_t kCommitRecords = 1024;
// Recycling candidates found by one pass over the slab, so that a full registry is not searched
// for each new name.
constexpr uint32_t kCandidatesMax = 256;
// Looks at a record that another writer owns, before it sleeps between them.
constexpr uint32_t kYieldsMax = 64;

// Waits for the owner of a record.
class Patience {
 public:
  // For a moment; false when it has been long enough.
  bool Wait() {
    if (waits_++ < kYieldsMax) {
      sched_yield();
      return true;
    }
    if (waits_ > kYieldsMax + kOwnerPatienceMs) return false;
    poll(nullptr, 0, 1);
    return true;
  }

 private:
  uint32_t waits_ = 0;
};

void StoreText(std::string_view text, Word* words) {
  for (size_t at = 0; at < text.size(); at += 8, ++words) {
    Store(*words, LoadWord(text.data() + at, std::min<size_t>(8, text.size() - at)));
  }
}

bool IsValidNode(const NodeRecord& node) {
  return !node.name.empty() && node.name.size() <= kRegistryNameSizeMax &&
         node.extra.size() <= kRegistryExtraSizeMax &&
         node.name.find('\0') == std::string_view::npos;
}

absl::Status ToStatus(const Problem& problem) {
  switch (problem.kind) {
    case Problem::Kind::kNone:
      return absl::OkStatus();
    case Problem::Kind::kNotFound:
      return absl::NotFoundError(problem.message);
    case Problem::Kind::kUnacceptable:
    case Problem::Kind::kNewer:
      return absl::FailedPreconditionError(problem.message);
    case Problem::Kind::kBusy:
      return absl::UnavailableError(problem.message);
    case Problem::Kind::kNoSpace:
      return absl::ResourceExhaustedError(problem.message);
    case Problem::Kind::kSystem:
      return absl::InternalError(problem.message);
  }
  return absl::InternalError(problem.message);
}

}  // namespace

class Registry::Impl {
 public:
  Impl(std::string file, std::unique_ptr<Segment> mapped, std::unique_ptr<WriterSlot> place)
      : path(std::move(file)),
        segment(std::move(mapped)),
        writer(std::move(place)),
        view(*segment) {}

  RegisterResult Register(const NodeRecord& node);
  bool Unregister(uint32_t slot, uint64_t id);
  bool Orphan(uint32_t slot, uint64_t id);
  bool Adopt(uint32_t slot, uint64_t id, uint64_t connection_cookie);
  bool Amend(uint32_t slot, uint64_t id, const Amendment& what);
  bool AwaitOwner(uint32_t slot);
  uint32_t LiveCount();

  const std::string path;
  const std::unique_ptr<Segment> segment;
  const std::unique_ptr<WriterSlot> writer;
  const RegistryView view;

 private:
  struct Found {
    enum class Kind : uint8_t { kAbsent, kRemembered, kTaken, kChanged, kBroken };
    Kind kind = Kind::kBroken;
    uint32_t index = 0;
    uint64_t state = 0;  // kRemembered
    uint64_t id = 0;     // kTaken
    uint64_t head = 0;   // kAbsent: the head of the chain when the search began
  };

  // Looks once for `name`.
  Found Find(uint64_t hash, std::string_view name);
  // Takes registration `id` up to amend it (L-11), if it is orphaned or, unless `only_orphaned`,
  // live; its owned state, or nothing.
  std::optional<uint64_t> TakeUp(uint32_t slot, uint64_t id, bool only_orphaned);
  // A record that this writer owns in state kClaimed and that is on no chain; nothing when there is
  // none to be had.
  std::optional<uint32_t> ClaimRecord();
  std::optional<uint32_t> ClaimUnused();
  std::optional<uint32_t> ClaimRecycled();
  // Makes a free or remembered record one that is claimed and on no chain.
  bool ClaimFree(uint32_t index, uint64_t state);
  bool Retire(uint32_t index, uint64_t state);
  void FindCandidates();
  void Release(uint32_t index);
  bool HasMemory(uint32_t index, const NodeRecord& node);
  uint32_t FirstCreation() const;
  // Writes all but state, hash, name and link. REQUIRES: the caller owns the record.
  RegisterResult Fill(uint32_t index, const NodeRecord& node, uint32_t creation);
  void MakeLive(uint32_t index);

  uint64_t Claimed(uint64_t before) const {
    return layout::NextState(before, Kind::kClaimed, writer->number());
  }

  // Records below this have memory, as far as this process knows.
  std::atomic<uint32_t> committed_{0};
  // Records that a pass over the slab found free or remembered longest, oldest first: index (24
  // bits) and low bits of the state's version. They may be out of date: whoever takes one checks.
  std::array<std::atomic<uint64_t>, kCandidatesMax> candidates_ = {};
  std::atomic<uint32_t> candidates_taken_{kCandidatesMax};
  // The generation at which the slab was found to have nothing to recycle; ~0: never.
  std::atomic<uint64_t> full_generation_{~uint64_t{0}};
  // Generation (low 32 bits, in the high half) and the count of that time.
  std::atomic<uint64_t> counted_{0};
  std::atomic<bool> has_counted_{false};
};

Registry::Impl::Found Registry::Impl::Find(uint64_t hash, std::string_view name) {
  ChainWalk<Segment> walk(*segment, segment->BucketOf(hash));
  ChainStep step = walk.Next();
  for (; step == ChainStep::kRecord; step = walk.Next()) {
    Record& record = walk.record();
    const uint64_t state = Load(record.state);
    if (!HasName(*segment, walk.index(), hash, name)) continue;
    const Kind kind = layout::KindOf(state);
    // A retiring record has lost its name.
    if (kind == Kind::kRetiring) continue;
    // While in state `remembered` it is on its chain, so the claim checks all at once.
    if (kind == Kind::kRemembered) return {Found::Kind::kRemembered, walk.index(), state, 0, 0};
    const uint64_t id = Load(record.id);
    if (Load(record.state) != state || !walk.IsValid()) return {Found::Kind::kChanged};
    if (layout::IsFound(kind)) return {Found::Kind::kTaken, walk.index(), state, id, 0};
    if (kind == Kind::kClaimed && !SettleIfDead(*segment, *writer, walk.index(), state)) {
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

RegisterResult Registry::Impl::Register(const NodeRecord& node) {
  if (!IsValidNode(node)) return {Outcome::kInvalid};
  const uint64_t hash = HashName(segment->hash_key(), node.name);
  Word& head = segment->bucket(segment->BucketOf(hash));
  RegisterResult result{Outcome::kFull};
  RegisterResult registered;
  std::optional<uint32_t> fresh;
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const Found found = Find(hash, node.name);
    if (found.kind == Found::Kind::kBroken) break;
    if (found.kind == Found::Kind::kTaken) {
      result = {Outcome::kTaken, found.index, found.id, 0};
      break;
    }
    if (found.kind == Found::Kind::kRemembered) {
      if (!HasMemory(found.index, node)) break;
      Record& record = segment->record(found.index);
      if (!Replace(record.state, found.state, Claimed(found.state))) continue;
      // INV-5: what it had before, and one more.
      const uint32_t creation = layout::CreationOf(Load(record.address)) + 1;
      result = Fill(found.index, node, std::max(creation, kCreationMin));
      MakeLive(found.index);
      break;
    }
    if (found.kind == Found::Kind::kAbsent) {
      if (!fresh.has_value()) {
        fresh = ClaimRecord();
        if (!fresh.has_value() || !HasMemory(*fresh, node)) break;
        Store(segment->record(*fresh).hash, hash);
        registered = Fill(*fresh, node, FirstCreation());
        StoreText(node.name, layout::NameIsInline(node.name.size())
                                 ? segment->record(*fresh).text
                                 : segment->overflow(*fresh).name);
        // The chain may have changed meanwhile.
        continue;
      }
      Record& record = segment->record(*fresh);
      // Anew after each search: since the last one the name may have come, left and been retired,
      // which raised the floor (L-9).
      registered.creation = FirstCreation();
      Store(record.address,
            layout::Address(registered.creation, node.port, node.node_type, node.protocol));
      Store(record.next, layout::LinkLike(found.head, Load(record.next)));
      if (!Replace(head, found.head, layout::LinkTo(*fresh, found.head))) continue;
      MakeLive(*fresh);
      return registered;
    }
  }
  if (fresh.has_value()) Release(*fresh);
  return result;
}

RegisterResult Registry::Impl::Fill(uint32_t index, const NodeRecord& node, uint32_t creation) {
  Record& record = segment->record(index);
  uint64_t id = 0;
  do {
    id = segment->header().next_id.fetch_add(1, std::memory_order_acq_rel) + 1;
  } while (id == 0);
  Store(record.id, id);
  Store(record.address, layout::Address(creation, node.port, node.node_type, node.protocol));
  Store(record.sizes, layout::Sizes(node.name.size(), node.extra.size(), node.highest_version,
                                    node.lowest_version));
  Store(record.connection_cookie, node.connection_cookie);
  Store(record.listener_cookie, node.listener_cookie);
  Store(record.owner, layout::Halves(node.owner_uid, node.owner_pid));
  Store(record.since_unix_ns, UnixNs());
  StoreText(node.extra, layout::ExtraIsInline(node.name.size(), node.extra.size())
                            ? record.text + layout::TextWords(node.name.size())
                            : segment->overflow(index).extra);
  return {Outcome::kRegistered, index, id, creation};
}

void Registry::Impl::MakeLive(uint32_t index) {
  Word& state = segment->record(index).state;
  Store(state, layout::NextState(Load(state), Kind::kLive));
  AnnounceChange(*segment);
}

uint32_t Registry::Impl::FirstCreation() const {
  const uint32_t now_s = static_cast<uint32_t>(UnixNs() / 1'000'000'000);
  const uint32_t floor = static_cast<uint32_t>(Load(segment->header().creation_floor));
  return std::max({now_s, floor, kCreationMin});
}

bool Registry::Impl::HasMemory(uint32_t index, const NodeRecord& node) {
  if (!layout::NeedsOverflow(node.name.size(), node.extra.size())) return true;
  return segment->Commit(
      segment->geometry().overflow_offset + uint64_t{index} * sizeof(layout::OverflowBlock),
      sizeof(layout::OverflowBlock));
}

std::optional<uint32_t> Registry::Impl::ClaimRecord() {
  if (std::optional<uint32_t> index = ClaimUnused()) return index;
  return ClaimRecycled();
}

std::optional<uint32_t> Registry::Impl::ClaimUnused() {
  Word& high_water = segment->header().high_water;
  uint64_t used = Load(high_water);
  while (used < segment->capacity()) {
    const uint32_t index = static_cast<uint32_t>(used);
    if (index >= committed_.load(std::memory_order_relaxed)) {
      const uint32_t first = index / kCommitRecords * kCommitRecords;
      const uint32_t end = std::min(first + kCommitRecords, segment->capacity());
      if (!segment->Commit(segment->geometry().records_offset + uint64_t{first} * sizeof(Record),
                           uint64_t{end - first} * sizeof(Record))) {
        return std::nullopt;
      }
      committed_.store(end, std::memory_order_relaxed);
    }
    if (!high_water.compare_exchange_strong(used, used + 1, std::memory_order_acq_rel,
                                            std::memory_order_acquire)) {
      continue;
    }
    // Who recycles may have been faster, as the record has been there for all since.
    if (ClaimFree(index, Load(segment->record(index).state))) return index;
    used = Load(high_water);
  }
  return std::nullopt;
}

bool Registry::Impl::ClaimFree(uint32_t index, uint64_t state) {
  return layout::KindOf(state) == Kind::kFree &&
         Replace(segment->record(index).state, state, Claimed(state));
}

bool Registry::Impl::Retire(uint32_t index, uint64_t state) {
  Record& record = segment->record(index);
  const uint32_t creation = layout::CreationOf(Load(record.address));
  if (Load(record.state) != state) return false;
  RaiseCreationFloor(*segment, creation);  // L-9
  const uint64_t retiring = layout::NextState(state, Kind::kRetiring, writer->number());
  if (!Replace(record.state, state, retiring)) return false;
  // Only a damaged segment: nobody can use the record any more.
  if (!TakeOffChain(*segment, index)) return false;
  return Replace(record.state, retiring, Claimed(retiring));
}

namespace {

constexpr uint64_t kCandidateVersionBits = 40;
static_assert(kRegistryCapacityMax <= 1u << 24);

uint64_t CandidateOf(uint32_t index, uint64_t state) {
  return (uint64_t{index} << kCandidateVersionBits) |
         (layout::VersionOf(state) & ((uint64_t{1} << kCandidateVersionBits) - 1));
}

}  // namespace

std::optional<uint32_t> Registry::Impl::ClaimRecycled() {
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint32_t taken = candidates_taken_.fetch_add(1, std::memory_order_acq_rel);
    if (taken >= kCandidatesMax) {
      const uint64_t generation = Load(segment->header().generation);
      if (full_generation_.load(std::memory_order_acquire) == generation) return std::nullopt;
      FindCandidates();
      continue;
    }
    const uint64_t candidate = candidates_[taken].load(std::memory_order_acquire);
    const uint32_t index = static_cast<uint32_t>(candidate >> kCandidateVersionBits);
    if (index >= segment->capacity()) continue;
    const uint64_t state = Load(segment->record(index).state);
    if (CandidateOf(index, state) != candidate) continue;
    if (ClaimFree(index, state)) return index;
    if (layout::KindOf(state) == Kind::kRemembered && Retire(index, state)) return index;
  }
  return std::nullopt;
}

// Several threads may do this at once: candidates of both then lie mixed, which costs the strict
// order of age and nothing else.
void Registry::Impl::FindCandidates() {
  struct Old {
    uint64_t departure;  // 0: free
    uint64_t candidate;
    bool operator<(const Old& other) const { return departure < other.departure; }
  };
  std::array<Old, kCandidatesMax> oldest;  // a heap with the latest of them on top
  size_t count = 0;
  const uint64_t generation = Load(segment->header().generation);
  const uint32_t slots = segment->high_water();
  for (uint32_t index = 0; index < slots; ++index) {
    const Record& record = segment->record(index);
    const uint64_t state = Load(record.state);
    const Kind kind = layout::KindOf(state);
    // What a dead writer left counts as free once it is settled.
    if (layout::IsOwned(kind)) SettleIfDead(*segment, *writer, index, state);
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

void Registry::Impl::Release(uint32_t index) {
  Word& state = segment->record(index).state;
  Store(state, layout::NextState(Load(state), Kind::kFree));
  // For those that found the registry full.
  AnnounceChange(*segment);
}

bool Registry::Impl::Unregister(uint32_t slot, uint64_t id) {
  if (slot >= segment->high_water()) return false;
  Record& record = segment->record(slot);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t state = Load(record.state);
    const Kind kind = layout::KindOf(state);
    if (!layout::IsFound(kind)) return false;
    const uint64_t held = Load(record.id);
    if (Load(record.state) != state) continue;
    if (held != id) return false;
    if (!StoreDeparture(*segment, slot, state)) continue;
    // An owner still writes to the record, and does the rest (L-11).
    const uint64_t ended = layout::IsOwned(kind)
                               ? layout::NextState(state, Kind::kClaimed, layout::OwnerOf(state))
                               : layout::NextState(state, Kind::kRemembered);
    if (!Replace(record.state, state, ended)) continue;
    AnnounceChange(*segment);
    return true;
  }
  return false;
}

bool Registry::Impl::Orphan(uint32_t slot, uint64_t id) {
  if (slot >= segment->high_water()) return false;
  Record& record = segment->record(slot);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t state = Load(record.state);
    const Kind kind = layout::KindOf(state);
    if (!layout::IsFoundLive(kind)) return false;
    const uint64_t held = Load(record.id);
    if (Load(record.state) != state) continue;
    if (held != id) return false;
    if (!StoreDeparture(*segment, slot, state)) continue;
    // As in Unregister().
    const uint64_t orphaned =
        layout::IsOwned(kind) ? layout::NextState(state, Kind::kAdopting, layout::OwnerOf(state))
                              : layout::NextState(state, Kind::kOrphaned);
    if (!Replace(record.state, state, orphaned)) continue;
    AnnounceChange(*segment);
    return true;
  }
  return false;
}

std::optional<uint64_t> Registry::Impl::TakeUp(uint32_t slot, uint64_t id, bool only_orphaned) {
  if (slot >= segment->high_water()) return std::nullopt;
  Record& record = segment->record(slot);
  Patience patience;
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t state = Load(record.state);
    const Kind kind = layout::KindOf(state);
    if (!layout::IsFound(kind) || (only_orphaned && layout::IsFoundLive(kind))) return std::nullopt;
    const uint64_t held = Load(record.id);
    if (Load(record.state) != state) continue;
    if (held != id) return std::nullopt;
    if (layout::IsOwned(kind)) {
      if (SettleIfDead(*segment, *writer, slot, state)) continue;
      if (!patience.Wait()) return std::nullopt;
      continue;
    }
    const uint64_t owned = layout::NextState(
        state, kind == Kind::kLive ? Kind::kAmending : Kind::kAdopting, writer->number());
    if (Replace(record.state, state, owned)) return owned;
  }
  return std::nullopt;
}

bool Registry::Impl::AwaitOwner(uint32_t slot) {
  if (slot >= segment->high_water()) return true;
  layout::Word& state = segment->record(slot).state;
  const uint64_t seen = Load(state);
  const Kind kind = layout::KindOf(seen);
  if (!layout::IsOwned(kind) || layout::IsFound(kind)) return true;
  Patience patience;
  do {
    if (Load(state) != seen || SettleIfDead(*segment, *writer, slot, seen)) return true;
  } while (patience.Wait());
  return false;
}

bool Registry::Impl::Adopt(uint32_t slot, uint64_t id, uint64_t connection_cookie) {
  const std::optional<uint64_t> owned = TakeUp(slot, id, true);
  if (!owned.has_value()) return false;
  Store(segment->record(slot).connection_cookie, connection_cookie);
  const Kind ended = EndAmendment(*segment, slot, *owned, Kind::kLive);
  AnnounceChange(*segment);
  return ended == Kind::kLive;
}

bool Registry::Impl::Amend(uint32_t slot, uint64_t id, const Amendment& what) {
  const std::optional<uint64_t> owned = TakeUp(slot, id, false);
  if (!owned.has_value()) return false;
  Record& record = segment->record(slot);
  if (what.listener_cookie.has_value()) Store(record.listener_cookie, *what.listener_cookie);
  const uint64_t owner = Load(record.owner);
  Store(record.owner, layout::Halves(what.owner_uid.value_or(layout::LowHalf(owner)),
                                     what.owner_pid.value_or(layout::HighHalf(owner))));
  const Kind before = layout::KindOf(*owned) == Kind::kAmending ? Kind::kLive : Kind::kOrphaned;
  if (layout::IsFound(EndAmendment(*segment, slot, *owned, before))) return true;
  // For those that found the registry full.
  AnnounceChange(*segment);
  return false;
}

uint32_t Registry::Impl::LiveCount() {
  const uint32_t generation = layout::LowHalf(Load(segment->header().generation));
  const uint64_t counted = counted_.load(std::memory_order_acquire);
  if (has_counted_.load(std::memory_order_acquire) && layout::HighHalf(counted) == generation) {
    return layout::LowHalf(counted);
  }
  const uint32_t live = view.CountLive();
  counted_.store(layout::Halves(live, generation), std::memory_order_release);
  has_counted_.store(true, std::memory_order_release);
  return live;
}

Registry::Registry(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Registry::~Registry() = default;

absl::StatusOr<std::unique_ptr<Registry>> Registry::Open(const Options& options) {
  if (options.capacity == 0 || options.capacity > kRegistryCapacityMax) {
    return absl::InvalidArgumentError(absl::StrCat("a registry holds 1 to ", kRegistryCapacityMax,
                                                   " names, not ", options.capacity));
  }
  Problem problem;
  // Beside what is no registry no lock is left.
  std::unique_ptr<Segment> segment = Segment::Map(options.path, Segment::Access::kWrite, problem);
  if (problem && problem.kind != Problem::Kind::kNotFound &&
      problem.kind != Problem::Kind::kNewer) {
    return ToStatus(problem);
  }
  std::unique_ptr<WriterSlot> writer = WriterSlot::Open(options.path, problem);
  if (writer == nullptr) return ToStatus(problem);
  segment = Segment::Map(options.path, Segment::Access::kWrite, problem);
  // Whoever writes to the newer file may have acknowledged something since.
  if (problem.kind == Problem::Kind::kNewer && !writer->HasCompany() &&
      UndoMigration(options.path)) {
    segment = Segment::Map(options.path, Segment::Access::kWrite, problem);
  }
  if (problem.kind == Problem::Kind::kNotFound) {
    problem = Segment::Create(options.path, options.capacity);
    if (problem) return ToStatus(problem);
    segment = Segment::Map(options.path, Segment::Access::kWrite, problem);
  }
  if (segment == nullptr) return ToStatus(problem);
  if (segment->geometry().version < layout::kLayoutVersion) {
    problem = Migrate(options.path, *segment);
    if (problem) return ToStatus(problem);
    segment = Segment::Map(options.path, Segment::Access::kWrite, problem);
    if (segment == nullptr) return ToStatus(problem);
  }
  problem = writer->Take(options.path);
  if (problem) return ToStatus(problem);
  const bool has_company = writer->HasCompany();
  TidyAfterMigration(options.path, *segment);

  const BootId boot = CurrentBootId();
  const layout::Header& header = segment->header();
  const bool same_boot = Load(header.boot_id[0]) == boot[0] && Load(header.boot_id[1]) == boot[1];
  if (same_boot || has_company) {
    SettleAll(*segment, *writer);
  } else {
    RestartAfterReboot(*segment, boot);
  }
  writer->FinishOpening();
  return std::unique_ptr<Registry>(
      new Registry(std::make_unique<Impl>(options.path, std::move(segment), std::move(writer))));
}

absl::StatusOr<bool> Registry::NeedsMigration(const std::string& path) {
  Problem problem;
  const std::unique_ptr<Segment> segment = Segment::Map(path, Segment::Access::kWrite, problem);
  if (problem.kind == Problem::Kind::kNotFound) return false;
  if (segment == nullptr) return ToStatus(problem);
  return segment->geometry().version < layout::kLayoutVersion;
}

absl::Status Registry::Restore() {
  Problem problem = impl_->writer->StartOpening(impl_->path);
  if (problem) return ToStatus(problem);
  problem = TakeBackMigration(impl_->path, *impl_->segment);
  impl_->writer->FinishOpening();
  return ToStatus(problem);
}

absl::Status Registry::GiveBack() {
  const Problem problem = impl_->writer->StartOpening(impl_->path);
  if (problem) return ToStatus(problem);
  if (impl_->segment->IsNamed(impl_->path)) UndoMigration(impl_->path);
  impl_->writer->FinishOpening();
  return absl::OkStatus();
}

void Registry::ForgetPrevious() { ForgetMigration(impl_->path, *impl_->segment); }
bool Registry::superseded() const { return impl_->view.superseded(); }

RegisterResult Registry::Register(const NodeRecord& node) { return impl_->Register(node); }
bool Registry::AwaitOwner(uint32_t slot) { return impl_->AwaitOwner(slot); }
bool Registry::Unregister(uint32_t slot, uint64_t id) { return impl_->Unregister(slot, id); }
bool Registry::Orphan(uint32_t slot, uint64_t id) { return impl_->Orphan(slot, id); }
bool Registry::Adopt(uint32_t slot, uint64_t id, uint64_t connection_cookie) {
  return impl_->Adopt(slot, id, connection_cookie);
}
bool Registry::Amend(uint32_t slot, uint64_t id, const Amendment& what) {
  return impl_->Amend(slot, id, what);
}
void Registry::SetMapperStatus(const MapperStatus& status) {
  WriteMapperStatus(status, impl_->segment->header().mapper);
}
void Registry::SetUpgradeStatus(const UpgradeStatus& status) {
  WriteUpgradeStatus(status, impl_->segment->header().upgrade);
}
MapperStatus Registry::mapper_status() const { return impl_->view.mapper_status(); }
UpgradeStatus Registry::upgrade_status() const { return impl_->view.upgrade_status(); }
bool Registry::Lookup(std::string_view name, Registration& found) const {
  return impl_->view.Lookup(name, found);
}
bool Registry::ReadSlot(uint32_t slot, Registration& found) const {
  return impl_->view.ReadSlot(slot, found);
}
void Registry::ForEach(absl::FunctionRef<void(const Registration&)> visit) const {
  ForEachOf(0, impl_->view.slots_used(), visit);
}

bool Registry::ForEachOf(uint32_t first, uint32_t count,
                         absl::FunctionRef<void(const Registration&)> visit) const {
  Registration registration;
  const uint32_t used = impl_->view.slots_used();
  const uint32_t end = first + std::min(count, used - std::min(first, used));
  for (uint32_t slot = first; slot < end; ++slot) {
    if (impl_->view.ReadSlot(slot, registration)) visit(registration);
  }
  return end < used;
}
uint64_t Registry::generation() const { return impl_->view.generation(); }
uint32_t Registry::capacity() const { return impl_->view.capacity(); }
uint32_t Registry::live_count() const { return impl_->LiveCount(); }
const std::string& Registry::path() const { return impl_->path; }
WorkerStatistics& Registry::statistics(uint32_t worker) {
  return impl_->segment->statistics(std::min(worker, kStatisticsWorkersMax - 1));
}

std::string DefaultRegistryPath(uint16_t port) {
  const auto directory = []() -> std::string {
    const char* runtime_directory = getenv("RUNTIME_DIRECTORY");
    if (runtime_directory != nullptr && *runtime_directory != '\0') {
      return std::string(runtime_directory, strcspn(runtime_directory, ":"));
    }
    if (geteuid() == 0) return "/run/epmd";
    const char* user_directory = getenv("XDG_RUNTIME_DIR");
    if (user_directory != nullptr && *user_directory == '/' &&
        DirectoryComplaint(user_directory, geteuid()).empty()) {
      return absl::StrCat(user_directory, "/epmd");
    }
    return absl::StrCat("/dev/shm/epmd-", geteuid());
  };
  return absl::StrCat(directory(), "/registry.", port);
}

absl::Status MakeRegistryDirectory(const std::string& registry_path) {
  const std::string directory = DirectoryOf(registry_path);
  if (mkdir(directory.c_str(), 0755) == 0) {
    // The umask must not decide who can read the registry.
    if (chmod(directory.c_str(), 0755) == 0) return absl::OkStatus();
  } else if (errno == EEXIST) {
    const std::string complaint = DirectoryComplaint(directory, geteuid());
    if (complaint.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        directory, ": ", complaint, "; put it right or name a registry with -registry"));
  }
  const int error = errno;
  return absl::FailedPreconditionError(absl::StrCat(directory,
                                                    ": cannot be made: ", ErrorText(error),
                                                    "; make it or name a registry with -registry"));
}

}  // namespace evermap
