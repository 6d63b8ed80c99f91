#include "registry/departure.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "registry/base/clock.h"
#include "registry/layout.h"

namespace evermap {
namespace {

using layout::Load;
using layout::Replace;
using layout::Store;
using layout::Word;

// The clock is moved a little all the time; only more than this is noted.
constexpr int64_t kMovedMinNs = kNsPerSecond;

// Notes by how much the clock has been moved since steady time began.
void NoteClock(Segment& segment, uint64_t steady_ns) {
  Word& shown_offset = segment.header().shown_offset;
  const uint64_t moved = static_cast<uint64_t>(UnixNs()) - steady_ns;
  const auto change_ns = static_cast<int64_t>(moved - Load(shown_offset));
  if (change_ns < -kMovedMinNs || change_ns > kMovedMinNs) Store(shown_offset, moved);
}

}  // namespace

uint64_t SteadyNs(const Segment& segment) {
  return static_cast<uint64_t>(MonotonicNs()) + Load(segment.header().steady_offset);
}

uint64_t NextDeparture(Segment& segment) {
  const uint64_t now_ns = SteadyNs(segment);
  NoteClock(segment, now_ns);
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
  layout::Record& record = segment.record(index);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t before = Load(record.departure);
    if (Load(record.state) != state) return false;
    if (Replace(record.departure, before, NextDeparture(segment))) return true;
  }
  return false;
}

void RestartSteadyTime(Segment& segment) {
  layout::Header& header = segment.header();
  const auto now_ns = static_cast<uint64_t>(UnixNs());
  Store(header.steady_offset, now_ns - static_cast<uint64_t>(MonotonicNs()));
  Store(header.shown_offset, 0);
  std::vector<std::pair<uint64_t, uint32_t>> ahead;  // departure and index
  const uint32_t slots = segment.high_water();
  for (uint32_t index = 0; index < slots; ++index) {
    const uint64_t departure = Load(segment.record(index).departure);
    if (departure > now_ns) ahead.emplace_back(departure, index);
  }
  std::sort(ahead.begin(), ahead.end());
  // They become a few microseconds more than now, which no other departure is.
  uint64_t departure = now_ns;
  for (const auto& [before, index] : ahead) Store(segment.record(index).departure, ++departure);
  if (Load(header.last_departure) > departure) Store(header.last_departure, departure);
}

}  // namespace evermap
