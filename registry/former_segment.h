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
};

class FormerSegment {
 public:
  // REQUIRES: `segment` outlives the object.
  explicit FormerSegment(const Segment& segment)
      : segment_(segment), layout_(segment.description()), geometry_(segment.geometry()) {}

  uint32_t capacity() const { return geometry_.capacity; }
  uint32_t buckets() const { return geometry_.buckets; }
  const SipHashKey& hash_key() const { return segment_.hash_key(); }
  uint32_t BucketOf(uint64_t hash) const { return segment_.BucketOf(hash); }

  // REQUIRES: number < buckets().
  const layout::Word& bucket(uint32_t number) const {
    assert(number < geometry_.buckets);
    return WordAt(geometry_.buckets_offset + uint64_t{number} * sizeof(layout::Word));
  }
  // REQUIRES: index < capacity().
  FormerRecord record(uint32_t index) const {
    assert(index < geometry_.capacity);
    const uint64_t begin = geometry_.records_offset + uint64_t{index} * layout_.record_size;
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
            .departure = WordIn(begin, at.departure)};
  }
  // Records used at least once; all others are free. At most capacity().
  uint32_t high_water() const {
    return static_cast<uint32_t>(
        std::min<uint64_t>(layout::Load(HeaderWord(layout_.header.high_water)), capacity()));
  }

  // The first words of the name and the extra of record `index`.
  // REQUIRES: index < capacity(); the sizes are at most kRegistryNameSizeMax, kRegistryExtraSizeMax.
  const layout::Word* NameWords(uint32_t index, size_t name_size) const {
    assert(index < geometry_.capacity && name_size <= kRegistryNameSizeMax);
    return segment_.at<layout::Word>(layout_.name_offset(geometry_, index, name_size));
  }
  const layout::Word* ExtraWords(uint32_t index, size_t name_size, size_t extra_size) const {
    assert(index < geometry_.capacity && name_size <= kRegistryNameSizeMax &&
           extra_size <= kRegistryExtraSizeMax);
    return segment_.at<layout::Word>(layout_.extra_offset(geometry_, index, name_size, extra_size));
  }

  // Words of the header.
  const layout::Word& boot_id(uint32_t half) const {
    return HeaderWord(layout_.header.boot_id + half * static_cast<uint32_t>(sizeof(layout::Word)));
  }
  const layout::Word& created_unix_ns() const { return HeaderWord(layout_.header.created_unix_ns); }
  const layout::Word& next_id() const { return HeaderWord(layout_.header.next_id); }
  const layout::Word& generation() const { return HeaderWord(layout_.header.generation); }
  const layout::Word& creation_floor() const { return HeaderWord(layout_.header.creation_floor); }
  const layout::Word& last_departure() const { return HeaderWord(layout_.header.last_departure); }
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
  const layout::Word& WordIn(uint64_t begin, uint32_t offset) const {
    static const layout::Word kZero = {};
    return offset == layout::kNoSuchWord ? kZero : WordAt(begin + offset);
  }
  const layout::Word& HeaderWord(uint32_t offset) const { return WordIn(0, offset); }

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
