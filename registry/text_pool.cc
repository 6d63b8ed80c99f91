#include "registry/text_pool.h"

#include <cassert>

#include "registry/layout.h"
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

// A search that is lost to another writer is begun again, but not for ever.
constexpr int kSearchesMax = 64;

// Number of block `at` of an extent, + 1, as records name it.
uint64_t BlockNumber(uint32_t extent, uint32_t at) {
  return uint64_t{extent} * layout::kExtentBlocks + at + 1;
}

Word& OwnerWord(Segment& segment, uint64_t block) {
  const auto extent = static_cast<uint32_t>((block - 1) / layout::kExtentBlocks);
  auto& head = *reinterpret_cast<layout::ExtentHead*>(segment.extents().at(extent));
  return head.block_owners[(block - 1) % layout::kExtentBlocks];
}

}  // namespace

TextPool::TextPool(Segment& segment, const WriterPlace& place, Slab& slab)
    : segment_(segment), place_(place), slab_(slab) {
  assert(segment.is_newest());
}

bool TextPool::Provide(uint32_t index, size_t name_size, size_t extra_size) {
  Word& text_block = segment_.record(index).text_block;
  const uint64_t block = Load(text_block);
  if (!layout::NeedsBlock(name_size, extra_size)) {
    if (block == 0) return true;
    Store(text_block, 0);
    GiveBack(index, block);
    return true;
  }
  if (Keep(index, block)) return true;
  for (int i = 0; i < kSearchesMax; ++i) {
    std::optional<uint64_t> taken = Take(index, Search::kNear);
    if (!taken.has_value()) {
      if (segment_.extents().Add(ExtentUse::kBlocks, Extents::Reserve::kKeep)) {
        hand_.store(segment_.extents().count() - 1, std::memory_order_relaxed);
        continue;
      }
      taken = Take(index, Search::kAll);
      if (!taken.has_value()) return false;
    }
    Store(text_block, *taken);
    return true;
  }
  return false;
}

bool TextPool::Keep(uint32_t index, uint64_t block) {
  if (segment_.extents().BlockAt(block) == nullptr) return false;
  Word& word = OwnerWord(segment_, block);
  const uint64_t owner = Load(word);
  // Raises the version, so that nobody takes it who has seen the record before it was claimed.
  return layout::LowHalf(owner) == index + 1 &&
         Replace(word, owner, layout::NextOwner(owner, index + 1));
}

void TextPool::GiveBack(uint32_t index, uint64_t block) {
  if (segment_.extents().BlockAt(block) == nullptr) return;
  Word& word = OwnerWord(segment_, block);
  const uint64_t owner = Load(word);
  if (layout::LowHalf(owner) == index + 1) Replace(word, owner, layout::NextOwner(owner, 0));
}

std::optional<uint64_t> TextPool::Take(uint32_t index, Search search) {
  // A turn is lost only to a writer that has taken the same block.
  for (int i = 0; i < kSearchesMax; ++i) {
    const Candidate found = Find(index, search);
    if (found.is_taken) return found.block;
    if (found.block == 0) return std::nullopt;
    if (TakeFromName(index, found.block)) return found.block;
  }
  return std::nullopt;
}

TextPool::Candidate TextPool::Find(uint32_t index, Search search) {
  const Extents& extents = segment_.extents();
  const uint32_t count = extents.count();
  const uint32_t first = hand_.load(std::memory_order_relaxed);
  const uint32_t extents_max = search == Search::kAll ? count : kExtentsPerSearch;
  uint32_t searched = 0;
  uint32_t remembered = 0;
  Candidate oldest;
  uint64_t oldest_departure = 0;
  for (uint32_t i = 0; i < count && searched < extents_max; ++i) {
    const uint32_t extent = (first + i) % count;
    if (extents.use(extent) != ExtentUse::kBlocks) continue;
    ++searched;
    for (uint32_t at = 0; at < layout::kExtentBlocks; ++at) {
      const uint64_t block = BlockNumber(extent, at);
      Word& word = OwnerWord(segment_, block);
      const uint64_t owner = Load(word);
      uint64_t state = 0;
      const Standing standing = StandingOf(block, owner, state);
      if (standing == Standing::kVacant &&
          Replace(word, owner, layout::NextOwner(owner, index + 1))) {
        hand_.store(extent, std::memory_order_relaxed);
        return {.block = block, .is_taken = true};
      }
      if (standing != Standing::kRemembered) continue;
      ++remembered;
      const uint64_t departure = Load(segment_.record(layout::LowHalf(owner) - 1).departure);
      if (oldest.block != 0 && departure >= oldest_departure) continue;
      oldest.block = block;
      oldest_departure = departure;
    }
  }
  const bool has_few = 4 * remembered < searched * layout::kExtentBlocks;
  return search == Search::kNear && has_few ? Candidate{} : oldest;
}

bool TextPool::TakeFromName(uint32_t index, uint64_t block) {
  Word& word = OwnerWord(segment_, block);
  const uint64_t owner = Load(word);
  uint64_t state = 0;
  if (StandingOf(block, owner, state) == Standing::kRemembered) {
    slab_.Forget(layout::LowHalf(owner) - 1, state);
  }
  return StandingOf(block, owner, state) == Standing::kVacant &&
         Replace(word, owner, layout::NextOwner(owner, index + 1));
}

TextPool::Standing TextPool::StandingOf(uint64_t block, uint64_t owner, uint64_t& state) {
  const uint32_t record_plus_1 = layout::LowHalf(owner);
  if (record_plus_1 == 0 || !segment_.HasRecord(record_plus_1 - 1)) return Standing::kVacant;
  const uint32_t index = record_plus_1 - 1;
  const Record& record = segment_.record(index);
  state = Load(record.state);
  if (layout::HasClaimant(layout::KindOf(state)) && !layout::IsFound(layout::KindOf(state))) {
    if (!SettleIfDead(segment_, place_, index, state)) return Standing::kHeld;
    state = Load(record.state);
    if (layout::HasClaimant(layout::KindOf(state))) return Standing::kHeld;
  }
  const bool has_it = Load(record.text_block) == block;
  const size_t name_size = layout::NameSizeOf(Load(record.sizes));
  if (Load(record.state) != state) return Standing::kHeld;
  const Kind kind = layout::KindOf(state);
  if (!has_it || kind == Kind::kFree) return Standing::kVacant;
  if (kind != Kind::kRemembered) return Standing::kHeld;
  return layout::NameIsInline(name_size) ? Standing::kVacant : Standing::kRemembered;
}

void RestartBlock(Segment& segment, uint32_t index, bool is_remembered) {
  Record& record = segment.record(index);
  const uint64_t block = Load(record.text_block);
  if (block == 0) return;
  const size_t name_size = layout::NameSizeOf(Load(record.sizes));
  if (!is_remembered || layout::NameIsInline(name_size) ||
      segment.extents().BlockAt(block) == nullptr) {
    Store(record.text_block, 0);
    return;
  }
  Word& owner = OwnerWord(segment, block);
  Store(owner, layout::NextOwner(Load(owner), index + 1));
}

bool ProvideNext(Segment& segment, uint32_t index, size_t name_size, size_t extra_size,
                 uint64_t& next) {
  if (!layout::NeedsBlock(name_size, extra_size)) return true;
  Extents& extents = segment.extents();
  for (;;) {
    const auto extent = static_cast<uint32_t>(next / layout::kExtentBlocks);
    if (extent == extents.count()) {
      if (!extents.Add(ExtentUse::kBlocks, Extents::Reserve::kUse)) return false;
    } else if (extents.use(extent) == ExtentUse::kBlocks) {
      break;
    } else {
      next = uint64_t{extent + 1} * layout::kExtentBlocks;
    }
  }
  const uint64_t block = ++next;
  Store(OwnerWord(segment, block), layout::NextOwner(0, index + 1));
  Store(segment.record(index).text_block, block);
  return true;
}

}  // namespace evermap
