#include "registry/reader.h"

#include <cassert>
#include <utility>

#include "registry/base/clock.h"
#include "registry/former_reader.h"
#include "registry/former_segment.h"
#include "registry/layout.h"
#include "registry/occupancy.h"
#include "registry/owner.h"
#include "registry/read_segment.h"
#include "registry/segment.h"

namespace evermap {

using layout::Load;

namespace {

// How many records there are whose kind is one of these.
uint32_t CountOf(const Segment& segment, bool (*is_counted)(layout::Kind)) {
  uint32_t count = 0;
  uint32_t words = ~0u;
  const uint32_t slots = segment.high_water();
  for (uint32_t slot = 0; (slot = NextOccupied(segment, slot, slots, words)) < slots; ++slot) {
    if (is_counted(layout::KindOf(Load(segment.record(slot).state)))) ++count;
  }
  return count;
}

}  // namespace

bool RegistryView::Lookup(std::string_view name, Registration& found) const {
  if (name.empty() || name.size() > kRegistryNameSizeMax) return false;
  if (!segment_.is_newest()) return LookupInFormer(segment_, name, found);
  return LookupIn(segment_, name, found);
}

bool RegistryView::ReadSlot(uint32_t slot, Registration& found) const {
  if (!segment_.is_newest()) return ReadSlotInFormer(segment_, slot, found);
  return ReadSlotIn(segment_, slot, found);
}

uint32_t RegistryView::CountLive() const {
  return segment_.is_newest() ? CountOf(segment_, layout::IsFound) : CountLiveInFormer(segment_);
}

uint32_t RegistryView::CountConnected() const {
  assert(segment_.is_newest());
  return CountOf(segment_, layout::IsFoundLive);
}

uint64_t RegistryView::SteadyNs() const {
  const FormerSegment described(segment_);
  const uint64_t offset = Load(described.word(&HeaderPlaces::steady_offset));
  // Until layout version 2 departures were times of day.
  return static_cast<uint64_t>(offset == 0 ? UnixNs() : MonotonicNs()) + offset;
}

uint64_t RegistryView::generation() const {
  return Load(segment_.is_newest() ? segment_.header().generation
                                   : FormerSegment(segment_).generation());
}

uint32_t RegistryView::capacity() const { return segment_.capacity(); }
uint64_t RegistryView::last_id() const {
  return segment_.header().next_id.load(std::memory_order_acquire);
}

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

uint16_t RegistryView::port() const { return segment_.is_newest() ? ReadOwner(segment_).port : 0; }

bool RegistryView::tells_changes() const {
  return Load(FormerSegment(segment_).word(&HeaderPlaces::tells_changes)) != 0;
}

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

bool Reader::IsNamed(const std::string& path) const { return evermap::IsNamed(*segment_, path); }

}  // namespace evermap
