// A registry file in memory.
//
// What is needed of the file's header (offsets, capacity, key) is checked when it is mapped and then
// kept in private memory (INV-6, L-10). Files in the newest layout are accessed by its structures;
// those in a former one through FormerSegment (former_segment.h). Depends on nothing but the
// standard library and the kernel, since the C library is made of it too.
//
// Thread safety: all members may be called from any number of threads; the words are atomics
// (layout.h).
#ifndef EVERMAP_REGISTRY_SEGMENT_H_
#define EVERMAP_REGISTRY_SEGMENT_H_

#include <cassert>
#include <cstdint>
#include <memory>
#include <string>

#include "registry/base/owned_fd.h"
#include "registry/extents.h"
#include "registry/layout.h"
#include "registry/problem.h"
#include "registry/segment_file.h"
#include "registry/segment_header.h"
#include "registry/siphash.h"

namespace evermap {

// A mapped file. All that is given out is inside the file, provided that HasRecord() is true of
// indices and bucket numbers come from BucketOf().
class Segment {
 public:
  // Maps an existing file of any known layout, or says what is wrong with it (kNotFound: there is
  // none). Changes nothing.
  static std::unique_ptr<Segment> Map(const std::string& path, SegmentAccess access,
                                      Problem& problem);
  // The same for a file that is open already; `path` is for messages.
  static std::unique_ptr<Segment> MapFile(const std::string& path, OwnedFd fd, SegmentAccess access,
                                          Problem& problem);

  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  const layout::Geometry& geometry() const { return shape_.geometry; }
  // Whether the file has the newest layout.
  bool is_newest() const { return header_ != nullptr; }
  uint32_t capacity() const { return shape_.geometry.capacity; }
  const SipHashKey& hash_key() const { return shape_.hash_key; }
  uint32_t BucketOf(uint64_t hash) const {
    return static_cast<uint32_t>(hash) & (shape_.geometry.buckets - 1);
  }

  // What lies at byte `offset` of the file. REQUIRES: it is inside the file.
  template <typename Type>
  const Type* at(uint64_t offset) const {
    return reinterpret_cast<const Type*>(base_ + offset);
  }
  // Not 0 when another file has taken this one's name (L-13).
  const layout::Word& superseded() const { return *at<layout::Word>(layout::kSupersededAt); }

  // Whether record `index` is inside the file: of one beyond the records known so far the file is
  // asked. In a file that is as it should be all records that a link leads to are.
  bool HasRecord(uint32_t index) const { return extents_.HasRecord(index); }
  // Its Add() REQUIRES: mapped with kWrite.
  Extents& extents() const { return extents_; }

  // REQUIRES, for these five: is_newest(); for the records HasRecord(index). In another layout the
  // pointers are null, so that a mistake crashes rather than reads the wrong words.
  const layout::Header& header() const { return *header_; }
  const layout::Word& bucket(uint32_t number) const { return buckets_[number]; }
  const layout::Record& record(uint32_t index) const {
    const char* records = extents_.records(index / layout::kExtentRecords);
    return reinterpret_cast<const layout::Record*>(records)[index % layout::kExtentRecords];
  }
  const WorkerStatistics& statistics(uint32_t worker) const { return statistics_[worker]; }
  // Records used at least once, and inside the file; all others are free.
  uint32_t high_water() const;

  // REQUIRES: mapped with kWrite; but for superseded() also is_newest().
  layout::Word& superseded() {
    return const_cast<layout::Word&>(static_cast<const Segment*>(this)->superseded());
  }
  layout::Header& header() { return *header_; }
  layout::Word& bucket(uint32_t number) { return buckets_[number]; }
  layout::Record& record(uint32_t index) {
    return const_cast<layout::Record&>(static_cast<const Segment*>(this)->record(index));
  }
  WorkerStatistics& statistics(uint32_t worker) { return statistics_[worker]; }
  // The descriptor of the file, which stays the segment's: for questions about the file itself.
  int fd() const { return fd_.get(); }

 private:
  Segment() = default;
  // Checks and maps an open file. On failure false, and `problem` says why.
  bool MapOpen(const std::string& path, OwnedFd fd, uint64_t file_size, SegmentAccess access,
               Problem& problem);

  OwnedFd fd_;
  char* base_ = nullptr;
  SegmentShape shape_;
  layout::Header* header_ = nullptr;
  WorkerStatistics* statistics_ = nullptr;
  layout::Word* buckets_ = nullptr;
  mutable Extents extents_;
};

// Has the segment go on with file `fd`, which has the same content: at the same address, and under the
// same descriptor, so that whoever knows these does not notice. REQUIRES: mapped with kWrite; nobody
// else uses the segment meanwhile.
void MoveTo(const OwnedFd& fd, Segment& segment);

// Whether `path` leads to the very file of `segment`.
bool IsNamed(const Segment& segment, const std::string& path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SEGMENT_H_
