#include "registry/reader.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "registry/chain.h"
#include "registry/former_segment.h"
#include "registry/layout.h"
#include "registry/record_text.h"
#include "registry/segment.h"
#include "registry/siphash.h"
#include "registry/text_place.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;

enum class Copied : uint8_t { kYes, kNothing, kChanged };

// Copies record `index` as it is in state `state`; kChanged when it left that state meanwhile
// (L-2).
template <typename SegmentType>
Copied CopyRecord(const SegmentType& segment, uint32_t index, uint64_t state, Registration& out) {
  const auto& record = segment.record(index);
  const Kind kind = layout::KindOf(state);
  const uint64_t sizes = Load(record.sizes);
  const uint64_t address = Load(record.address);
  const uint64_t user = Load(record.user);
  const uint64_t departure = Load(record.departure);
  const size_t name_size = std::min(layout::NameSizeOf(sizes), kRegistryNameSizeMax);
  const size_t extra_size = std::min(layout::ExtraSizeOf(sizes), kRegistryExtraSizeMax);
  out.id = Load(record.id);
  out.slot = index;
  out.creation = layout::CreationOf(address);
  out.port = static_cast<uint16_t>(address >> 32);
  out.node_type = static_cast<uint8_t>(address >> 48);
  out.protocol = static_cast<uint8_t>(address >> 56);
  out.highest_version = static_cast<uint16_t>(sizes >> 32);
  out.lowest_version = static_cast<uint16_t>(sizes >> 48);
  out.connection_cookie = Load(record.connection_cookie);
  out.listener_cookie = Load(record.listener_cookie);
  out.owner_uid = layout::LowHalf(user);
  out.owner_pid = layout::HighHalf(user);
  out.since_unix_ns = static_cast<int64_t>(Load(record.since_unix_ns));
  out.left_unix_ns = layout::IsFoundLive(kind) ? 0 : static_cast<int64_t>(departure);
  out.departure = layout::IsFound(kind) ? 0 : departure;
  out.state = layout::IsFoundLive(kind)       ? RegistrationState::kLive
              : layout::IsFoundOrphaned(kind) ? RegistrationState::kOrphaned
                                              : RegistrationState::kRemembered;
  out.name_size = static_cast<uint16_t>(name_size);
  out.extra_size = static_cast<uint16_t>(extra_size);
  CopyText(NameWords(segment, index, name_size), name_size, out.name_bytes);
  CopyText(ExtraWords(segment, index, name_size, extra_size), extra_size, out.extra_bytes);
  if (Load(record.state) != state) return Copied::kChanged;
  return name_size == 0 ? Copied::kNothing : Copied::kYes;
}

template <typename SegmentType>
bool LookupIn(const SegmentType& segment, std::string_view name, Registration& found) {
  const uint64_t hash = HashName(segment.hash_key(), name);
  const uint32_t bucket = segment.BucketOf(hash);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    ChainWalk<const SegmentType> walk(segment, bucket);
    ChainStep step = walk.Next();
    for (; step == ChainStep::kRecord; step = walk.Next()) {
      const uint64_t state = Load(walk.record().state);
      if (!HasName(segment, walk.index(), hash, name)) continue;
      // A retiring record has lost its name; the name may be on the chain again (L-5).
      if (layout::KindOf(state) == Kind::kRetiring) continue;
      if (layout::IsFound(layout::KindOf(state))) {
        const Copied copied = CopyRecord(segment, walk.index(), state, found);
        if (copied == Copied::kYes) return true;
        if (copied == Copied::kNothing) return false;
      } else if (Load(walk.record().state) == state && walk.IsValid()) {
        return false;
      }
      step = ChainStep::kChanged;
      break;
    }
    if (step != ChainStep::kChanged) return false;
  }
  return false;
}

template <typename SegmentType>
bool ReadSlotIn(const SegmentType& segment, uint32_t slot, Registration& found) {
  if (slot >= segment.high_water()) return false;
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t state = Load(segment.record(slot).state);
    const Kind kind = layout::KindOf(state);
    if (!layout::IsFound(kind) && kind != Kind::kRemembered) return false;
    const Copied copied = CopyRecord(segment, slot, state, found);
    if (copied != Copied::kChanged) return copied == Copied::kYes;
  }
  return false;
}

template <typename SegmentType>
uint32_t CountLiveIn(const SegmentType& segment) {
  uint32_t live = 0;
  const uint32_t slots = segment.high_water();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (layout::IsFound(layout::KindOf(Load(segment.record(slot).state)))) ++live;
  }
  return live;
}

}  // namespace

bool RegistryView::Lookup(std::string_view name, Registration& found) const {
  if (name.empty() || name.size() > kRegistryNameSizeMax) return false;
  if (!segment_.is_newest()) return LookupIn(FormerSegment(segment_), name, found);
  return LookupIn(segment_, name, found);
}

bool RegistryView::ReadSlot(uint32_t slot, Registration& found) const {
  if (!segment_.is_newest()) return ReadSlotIn(FormerSegment(segment_), slot, found);
  return ReadSlotIn(segment_, slot, found);
}

uint32_t RegistryView::CountLive() const {
  if (!segment_.is_newest()) return CountLiveIn(FormerSegment(segment_));
  return CountLiveIn(segment_);
}

uint64_t RegistryView::generation() const {
  return Load(segment_.is_newest() ? segment_.header().generation
                                   : FormerSegment(segment_).generation());
}

uint32_t RegistryView::capacity() const { return segment_.capacity(); }

uint32_t RegistryView::slots_used() const {
  return segment_.is_newest() ? segment_.high_water() : FormerSegment(segment_).high_water();
}

const WorkerStatistics& RegistryView::statistics(uint32_t worker) const {
  assert(worker < kStatisticsWorkersMax);
  if (segment_.is_newest()) return segment_.statistics(worker);
  return *reinterpret_cast<const WorkerStatistics*>(FormerSegment(segment_).statistics(worker));
}

size_t RegistryView::statistics_size() const { return segment_.geometry().statistics_size; }

MapperStatus RegistryView::mapper_status() const {
  return ReadMapperStatus(FormerSegment(segment_).mapper_note());
}

UpgradeStatus RegistryView::upgrade_status() const {
  return ReadUpgradeStatus(FormerSegment(segment_).upgrade_note());
}

bool RegistryView::superseded() const { return Load(segment_.superseded()) != 0; }

Reader::Reader(std::unique_ptr<Segment> segment) : segment_(std::move(segment)), view_(*segment_) {}
Reader::~Reader() = default;

std::unique_ptr<Reader> Reader::Open(const std::string& path, std::string& error) {
  Problem problem;
  std::unique_ptr<Segment> segment = Segment::Map(path, SegmentAccess::kRead, problem);
  if (segment == nullptr) {
    error = problem.message;
    return nullptr;
  }
  return std::unique_ptr<Reader>(new Reader(std::move(segment)));
}

bool Reader::IsNamed(const std::string& path) const { return segment_->IsNamed(path); }

}  // namespace evermap
