// A mapped file in any known layout, read through the description of that layout: by readers, which
// take a file as it is, and by migration. Slower than the access by structures that the newest
// layout has (segment.h), as every place is computed.
//
// Its members have the names of those of Segment, so that walks and copies (chain.h, reader.cc) are
// written once for both.
//
// Thread safety: all members may be called from any number of threads, while writers write.
#ifndef EVERMAP_REGISTRY_FORMER_SEGMENT_H_
#define EVERMAP_REGISTRY_FORMER_SEGMENT_H_

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "registry/layout_description.h"
#include "registry/registration.h"
#include "registry/segment.h"

namespace evermap {

// The words of one record. A word that the layout does not have reads as 0.
struct FormerRecord {
  const layout::Word& state;
  const layout::Word& next;
  const layout::Word& hash;
  const layout::Word& id;
  const layout::Word& address;
  const layout::Word& sizes;
  const layout::Word& connection_cookie;
  const layout::Word& listener_cookie;
  const layout::Word& user;
  const layout::Word& since_unix_ns;
  const layout::Word& departure;
  const layout::Word& text_block;
};

// A text of the largest size that is all zero: what a record has whose block is not there (INV-6).
inline const layout::Word kNoText[(std::max(kRegistryNameSizeMax, kRegistryExtraSizeMax) + 7) /
                                  sizeof(layout::Word)] = {};

// Names the words of a header.
using HeaderPlaces = layout::LayoutDescription::Header;

class FormerSegment {
 public:
  // REQUIRES: `segment` outlives the object.
  explicit FormerSegment(const Segment& segment)
      : segment_(segment),
        layout_(*DescriptionOf(segment.geometry().version)),
        geometry_(segment.geometry()) {}

  uint32_t capacity() const { return geometry_.capacity; }
  uint32_t buckets() const { return geometry_.buckets; }
  const SipHashKey& hash_key() const { return segment_.hash_key(); }
  uint32_t BucketOf(uint64_t hash) const { return segment_.BucketOf(hash); }

  // REQUIRES: number < buckets().
  const layout::Word& bucket(uint32_t number) const {
    assert(number < geometry_.buckets);
    return WordAt(geometry_.buckets_offset + uint64_t{number} * sizeof(layout::Word));
  }
  // Whether record `index` is inside the file.
  bool HasRecord(uint32_t index) const { return segment_.HasRecord(index); }
  // REQUIRES: HasRecord(index).
  FormerRecord record(uint32_t index) const {
    const char* begin = RecordAt(index);
    const layout::LayoutDescription::Record& at = layout_.record;
    return {.state = WordIn(begin, at.state),
            .next = WordIn(begin, at.next),
            .hash = WordIn(begin, at.hash),
            .id = WordIn(begin, at.id),
            .address = WordIn(begin, at.address),
            .sizes = WordIn(begin, at.sizes),
            .connection_cookie = WordIn(begin, at.connection_cookie),
            .listener_cookie = WordIn(begin, at.listener_cookie),
            .user = WordIn(begin, at.user),
            .since_unix_ns = WordIn(begin, at.since_unix_ns),
            .departure = WordIn(begin, at.departure),
            .text_block = WordIn(begin, at.text_block)};
  }
  // Records used at least once, and inside the file; all others are free.
  uint32_t high_water() const {
    const uint64_t used = layout::Load(HeaderWord(layout_.header.high_water));
    const Extents& extents = segment_.extents();
    const uint32_t slots = used > extents.slots() ? extents.Learn() : extents.slots();
    return static_cast<uint32_t>(std::min<uint64_t>(used, slots));
  }

  // The first words of the name and the extra of record `index`.
  // REQUIRES: HasRecord(index); the sizes are at most kRegistryNameSizeMax, kRegistryExtraSizeMax.
  const layout::Word* NameWords(uint32_t index, size_t name_size) const {
    assert(name_size <= kRegistryNameSizeMax);
    return TextAt(index, layout_.name_place(name_size));
  }
  const layout::Word* ExtraWords(uint32_t index, size_t name_size, size_t extra_size) const {
    assert(name_size <= kRegistryNameSizeMax && extra_size <= kRegistryExtraSizeMax);
    return TextAt(index, layout_.extra_place(name_size, extra_size));
  }

  // Words of the header.
  const layout::Word& boot_id(uint32_t half) const {
    return HeaderWord(layout_.header.boot_id + half * static_cast<uint32_t>(sizeof(layout::Word)));
  }
  // One that the layout does not have reads as 0.
  const layout::Word& word(uint32_t HeaderPlaces::*place) const {
    return HeaderWord(layout_.header.*place);
  }
  const layout::Word& generation() const { return HeaderWord(layout_.header.generation); }
  const layout::StatusNote& mapper_note() const {
    return *segment_.at<layout::StatusNote>(layout_.header.mapper);
  }
  const layout::StatusNote& upgrade_note() const {
    return *segment_.at<layout::StatusNote>(layout_.header.upgrade);
  }

  // Bytes of a worker's counters. The block begins with the counters that WorkerStatistics begins
  // with; those beyond this size are another worker's.
  size_t statistics_size() const { return geometry_.statistics_size; }
  // The first word of them. REQUIRES: worker < kStatisticsWorkersMax.
  const layout::Word* statistics(uint32_t worker) const {
    assert(worker < kStatisticsWorkersMax);
    return segment_.at<layout::Word>(geometry_.statistics_offset +
                                     worker * geometry_.statistics_size);
  }

 private:
  const layout::Word& WordAt(uint64_t offset) const { return *segment_.at<layout::Word>(offset); }
  static const layout::Word& WordIn(const char* begin, uint32_t offset) {
    if (offset == layout::kNoSuchWord) return kNoText[0];
    return *reinterpret_cast<const layout::Word*>(begin + offset);
  }
  const layout::Word& HeaderWord(uint32_t offset) const {
    return WordIn(segment_.at<char>(0), offset);
  }
  const char* RecordAt(uint32_t index) const {
    assert(HasRecord(index));
    if (geometry_.extents_max == 0) {
      return segment_.at<char>(geometry_.records_offset + uint64_t{index} * layout_.record_size);
    }
    const char* records = segment_.extents().records(index / geometry_.extent_records);
    return &records[uint64_t{index % geometry_.extent_records} * layout_.record_size];
  }
  const layout::Word* TextAt(uint32_t index, layout::TextPlace place) const {
    const char* begin = nullptr;
    if (!place.is_in_block) {
      begin = RecordAt(index);
    } else if (geometry_.extents_max == 0) {
      begin = segment_.at<char>(geometry_.overflow_offset + uint64_t{index} * layout_.block_size);
    } else {
      begin = segment_.extents().BlockAt(layout::Load(record(index).text_block));
      if (begin == nullptr) return kNoText;
    }
    return reinterpret_cast<const layout::Word*>(begin + place.offset);
  }

  const Segment& segment_;
  const layout::LayoutDescription& layout_;
  const layout::Geometry& geometry_;
};

inline const layout::Word* NameWords(const FormerSegment& segment, uint32_t index,
                                     size_t name_size) {
  return segment.NameWords(index, name_size);
}
inline const layout::Word* ExtraWords(const FormerSegment& segment, uint32_t index,
                                      size_t name_size, size_t extra_size) {
  return segment.ExtraWords(index, name_size, extra_size);
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_FORMER_SEGMENT_H_
