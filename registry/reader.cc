#include "registry/reader.h"

#include <algorithm>
#include <cstring>

#include "registry/chain.h"
#include "registry/layout.h"
#include "registry/siphash.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Record;

void CopyText(const layout::Word* words, size_t size, char* out) {
  size_t at = 0;
  for (; at + 8 <= size; at += 8, ++words) {
    const uint64_t word = Load(*words);
    std::memcpy(out + at, &word, 8);
  }
  if (at < size) {
    const uint64_t word = Load(*words);
    std::memcpy(out + at, &word, size - at);
  }
}

enum class Copied : uint8_t { kYes, kNothing, kChanged };

// Copies record `index` as it is in state `state`; kChanged when it left that state meanwhile
// (L-2).
Copied CopyRecord(const Segment& segment, uint32_t index, uint64_t state, Registration& out) {
  const Record& record = segment.record(index);
  const Kind kind = layout::KindOf(state);
  const uint64_t sizes = Load(record.sizes);
  const uint64_t address = Load(record.address);
  const uint64_t owner = Load(record.owner);
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
  out.owner_uid = layout::LowHalf(owner);
  out.owner_pid = layout::HighHalf(owner);
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

}  // namespace

bool RegistryView::Lookup(std::string_view name, Registration& found) const {
  if (name.empty() || name.size() > kRegistryNameSizeMax) return false;
  const uint64_t hash = HashName(segment_.hash_key(), name);
  const uint32_t bucket = segment_.BucketOf(hash);
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    ChainWalk<const Segment> walk(segment_, bucket);
    ChainStep step = walk.Next();
    for (; step == ChainStep::kRecord; step = walk.Next()) {
      const uint64_t state = Load(walk.record().state);
      if (!HasName(segment_, walk.index(), hash, name)) continue;
      // A retiring record has lost its name; the name may be on the chain again (L-5).
      if (layout::KindOf(state) == Kind::kRetiring) continue;
      if (layout::IsFound(layout::KindOf(state))) {
        const Copied copied = CopyRecord(segment_, walk.index(), state, found);
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

bool RegistryView::ReadSlot(uint32_t slot, Registration& found) const {
  if (slot >= segment_.high_water()) return false;
  for (uint32_t i = 0; i < layout::kRestartsMax; ++i) {
    const uint64_t state = Load(segment_.record(slot).state);
    const Kind kind = layout::KindOf(state);
    if (!layout::IsFound(kind) && kind != Kind::kRemembered) return false;
    const Copied copied = CopyRecord(segment_, slot, state, found);
    if (copied != Copied::kChanged) return copied == Copied::kYes;
  }
  return false;
}

MapperStatus RegistryView::mapper_status() const {
  return ReadMapperStatus(segment_.header().mapper);
}
UpgradeStatus RegistryView::upgrade_status() const {
  return ReadUpgradeStatus(segment_.header().upgrade);
}

uint32_t RegistryView::CountLive() const {
  uint32_t live = 0;
  const uint32_t slots = segment_.high_water();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (layout::IsFound(layout::KindOf(Load(segment_.record(slot).state)))) ++live;
  }
  return live;
}

std::unique_ptr<Reader> Reader::Open(const std::string& path, std::string& error) {
  Problem problem;
  std::unique_ptr<Segment> segment = Segment::Map(path, Segment::Access::kRead, problem);
  if (segment == nullptr) {
    error = problem.message;
    return nullptr;
  }
  return std::unique_ptr<Reader>(new Reader(std::move(segment)));
}

}  // namespace evermap
