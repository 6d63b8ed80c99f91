// A registry file: made, checked and mapped.
//
// Nothing read from the file is trusted (INV-6): a file is accepted only if it is what its header
// says, and what is needed later (offsets, capacity, key) is then copied to private memory. Depends
// on nothing but the standard library and the kernel, since the C library is made of it too.
#ifndef EVERMAP_REGISTRY_SEGMENT_H_
#define EVERMAP_REGISTRY_SEGMENT_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "registry/base/owned_fd.h"
#include "registry/layout.h"
#include "registry/siphash.h"

namespace evermap {

// Why something could not be done. `message` is one line: the path, what is wrong, the way out.
struct Problem {
  enum class Kind : uint8_t {
    kNone,
    kNotFound,
    kUnacceptable,  // the file, its directory or an option is not as it must be
    kNewer,         // the file has a layout that only a newer program knows
    kBusy,          // another process is in the way
    kNoSpace,
    kSystem,  // a system call failed for another reason
  };
  Kind kind = Kind::kNone;
  std::string message;
  explicit operator bool() const { return kind != Kind::kNone; }
};

using BootId = std::array<uint64_t, 2>;

// What a new registry file begins with.
struct SegmentOrigin {
  uint32_t capacity = 0;  // 1 to kRegistryCapacityMax
  SipHashKey hash_key;
  uint64_t created_unix_ns = 0;
  BootId boot = {};
};

// A mapped file. All that is given out is inside the mapping, provided that indices are below
// capacity() and bucket numbers come from BucketOf().
class Segment {
 public:
  enum class Access : uint8_t {
    kRead,   // owned by the caller, by root, or by the owner of its directory
    kWrite,  // owned by the caller
  };

  // Maps an existing file of any known layout (geometry().version), or says what is wrong with it
  // (kNotFound: there is none). Changes nothing. For readers: a file that belongs to neither the
  // caller nor root is accepted only where its directory belongs to the same user and nobody else
  // may write to that; whoever named such a path trusts that user, who can make a reader die of
  // SIGBUS by cutting the file short.
  static std::unique_ptr<Segment> Map(const std::string& path, Access access, Problem& problem);

  // Makes an empty file with mode 0644 that gets its name only when it is complete. If another one
  // took the name meanwhile, that is no problem: the new one is dropped.
  // REQUIRES: 1 <= capacity <= kRegistryCapacityMax.
  static Problem Create(const std::string& path, uint32_t capacity);

  // Makes and maps a file with mode 0644 at `path`, where there must be none, with an empty
  // registry in it. What has been made when it fails is left there.
  static std::unique_ptr<Segment> CreateAt(const std::string& path, const SegmentOrigin& origin,
                                           Problem& problem);

  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  uint32_t capacity() const { return geometry_.capacity; }
  const layout::Geometry& geometry() const { return geometry_; }
  const SipHashKey& hash_key() const { return hash_key_; }
  uint32_t BucketOf(uint64_t hash) const {
    return static_cast<uint32_t>(hash) & (geometry_.buckets - 1);
  }

  const layout::Header& header() const { return *header_; }
  const layout::Word& bucket(uint32_t number) const { return buckets_[number]; }
  const layout::Record& record(uint32_t index) const { return records_[index]; }
  const layout::OverflowBlock& overflow(uint32_t index) const { return overflow_[index]; }
  // In older layouts only the part before `reserved` is the worker's.
  const WorkerStatistics& statistics(uint32_t worker) const {
    return *reinterpret_cast<const WorkerStatistics*>(statistics_ +
                                                      worker * geometry_.statistics_size);
  }
  // Records used at least once; all others are free. At most capacity().
  uint32_t high_water() const;

  // REQUIRES: opened with kWrite.
  layout::Header& header() { return *header_; }
  layout::Word& bucket(uint32_t number) { return buckets_[number]; }
  layout::Record& record(uint32_t index) { return records_[index]; }
  layout::OverflowBlock& overflow(uint32_t index) { return overflow_[index]; }
  WorkerStatistics& statistics(uint32_t worker) {
    return *reinterpret_cast<WorkerStatistics*>(statistics_ + worker * geometry_.statistics_size);
  }

  // Gives memory to a range of the file, so that writing to it cannot end in SIGBUS on a full file
  // system; at once where it has it already. False: there is none. True also where the file system
  // cannot do it.
  // REQUIRES: opened with kWrite; the range is inside the file.
  bool Commit(uint64_t offset, uint64_t bytes) const;
  // Waits until the file system has kept all that was written; 0 or an errno.
  int Synchronize() const;

  // Whether `path` leads to this very file.
  bool IsNamed(const std::string& path) const;

 private:
  Segment() = default;
  // Checks and maps an open file. On failure false, and `problem` says why.
  bool MapOpen(const std::string& path, OwnedFd fd, uint64_t file_size, Access access,
               Problem& problem);

  OwnedFd fd_;
  void* base_ = nullptr;
  layout::Geometry geometry_;
  SipHashKey hash_key_;
  layout::Header* header_ = nullptr;
  char* statistics_ = nullptr;
  layout::Word* buckets_ = nullptr;
  layout::Record* records_ = nullptr;
  layout::OverflowBlock* overflow_ = nullptr;
};

// Of the running kernel; all zero when it cannot be read.
BootId CurrentBootId();

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SEGMENT_H_
