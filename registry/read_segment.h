// Lookups and copies, written once for segments in the newest layout (Segment, whose offsets the
// compiler knows) and in former ones (FormerSegment).
//
// Thread safety: all may be called from any number of threads, while writers write.
// Invariants: INV-1, INV-6; L-2, L-5, L-6, L-10 in layout.h.
#ifndef EVERMAP_REGISTRY_READ_SEGMENT_H_
#define EVERMAP_REGISTRY_READ_SEGMENT_H_

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <string_view>

#include "registry/chain.h"
#include "registry/former_segment.h"
#include "registry/layout_words.h"
#include "registry/record_text.h"
#include "registry/registration.h"
#include "registry/siphash.h"

namespace evermap {

// What is added to a departure to show it as a time of day (departure.h).
inline uint64_t ShownOffset(const Segment& segment) {
  return layout::Load(segment.header().shown_offset);
}
inline uint64_t ShownOffset(const FormerSegment& segment) {
  return layout::Load(segment.word(&HeaderPlaces::shown_offset));
}

enum class Copied : uint8_t { kYes, kNothing, kChanged };

// Copies record `index` as it is in state `state`; kChanged when it left that state meanwhile
// (L-2).
template <typename SegmentType>
Copied CopyRecord(const SegmentType& segment, uint32_t index, uint64_t state, Registration& out) {
  const auto& record = segment.record(index);
  const layout::Kind kind = layout::KindOf(state);
  const uint64_t sizes = layout::Load(record.sizes);
  const uint64_t address = layout::Load(record.address);
  const uint64_t user = layout::Load(record.user);
  const uint64_t departure = layout::Load(record.departure);
  const size_t name_size = std::min(layout::NameSizeOf(sizes), kRegistryNameSizeMax);
  // What a remembered name had beside it may be gone (L-15).
  const size_t extra_size = kind == layout::Kind::kRemembered
                                ? 0
                                : std::min(layout::ExtraSizeOf(sizes), kRegistryExtraSizeMax);
  out.id = layout::Load(record.id);
  out.slot = index;
  out.creation = layout::CreationOf(address);
  out.port = static_cast<uint16_t>(address >> 32);
  out.node_type = static_cast<uint8_t>(address >> 48);
  out.protocol = static_cast<uint8_t>(address >> 56);
  out.highest_version = static_cast<uint16_t>(sizes >> 32);
  out.lowest_version = static_cast<uint16_t>(sizes >> 48);
  out.connection_cookie = layout::Load(record.connection_cookie);
  out.listener_cookie = layout::Load(record.listener_cookie);
  out.owner_uid = layout::LowHalf(user);
  out.owner_pid = layout::HighHalf(user);
  out.since_unix_ns = static_cast<int64_t>(layout::Load(record.since_unix_ns));
  out.left_unix_ns =
      layout::IsFoundLive(kind) ? 0 : static_cast<int64_t>(departure + ShownOffset(segment));
  out.departure = layout::IsFoundLive(kind) ? 0 : departure;
  out.state = layout::IsFoundLive(kind)       ? RegistrationState::kLive
              : layout::IsFoundOrphaned(kind) ? RegistrationState::kOrphaned
                                              : RegistrationState::kRemembered;
  out.name_size = static_cast<uint16_t>(name_size);
  out.extra_size = static_cast<uint16_t>(extra_size);
  CopyText(NameWords(segment, index, name_size), name_size, out.name_bytes);
  if (extra_size > 0) {
    CopyText(ExtraWords(segment, index, name_size, extra_size), extra_size, out.extra_bytes);
  }
  if (layout::Load(record.state) != state) return Copied::kChanged;
  return name_size == 0 ? Copied::kNothing : Copied::kYes;
}

// REQUIRES: 1 <= name.size() <= kRegistryNameSizeMax.
template <typename SegmentType>
bool LookupIn(const SegmentType& segment, std::string_view name, Registration& found) {
  assert(!name.empty() && name.size() <= kRegistryNameSizeMax);
  const uint64_t hash = HashName(segment.hash_key(), name);
  const uint32_t bucket = segment.BucketOf(hash);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    ChainWalk<const SegmentType> walk(segment, bucket);
    ChainStep step = walk.Next();
    for (; step == ChainStep::kRecord; step = walk.Next()) {
      const uint64_t state = layout::Load(walk.record().state);
      if (!HasName(segment, walk.index(), hash, name)) continue;
      // A retiring record has lost its name; the name may be on the chain again (L-5).
      if (layout::KindOf(state) == layout::Kind::kRetiring) continue;
      if (layout::IsFound(layout::KindOf(state))) {
        const Copied copied = CopyRecord(segment, walk.index(), state, found);
        if (copied == Copied::kYes) return true;
        if (copied == Copied::kNothing) return false;
      } else if (layout::Load(walk.record().state) == state && walk.IsValid()) {
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
    const uint64_t state = layout::Load(segment.record(slot).state);
    const layout::Kind kind = layout::KindOf(state);
    if (!layout::IsFound(kind) && kind != layout::Kind::kRemembered) return false;
    const Copied copied = CopyRecord(segment, slot, state, found);
    if (copied != Copied::kChanged) return copied == Copied::kYes;
  }
  return false;
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_READ_SEGMENT_H_
