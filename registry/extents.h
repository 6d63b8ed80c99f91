// The part of a registry file that grows: extents of equal size behind all else, each of which has
// records or blocks of text (layout.h).
//
// The file is as large as what is used, and has no holes: what is inside it has memory. It is mapped
// once, at the largest size that it can get, and nothing is accessed that is not inside the file: a
// process knows how many extents are, and looks at the file anew when it meets an index beyond. So a
// lookup makes no system call, but for the first that meets a record in a new extent (INV-1).
//
// Extents are added at the end, and never taken away. The record extents have the records in their
// order: the first of them 0 to 255, the next 256 to 511, ...
//
// Thread safety: all members may be called from any number of threads, while other processes do the
// same. Several may add an extent at once.
// Invariants: INV-1, INV-3, INV-6.
#ifndef EVERMAP_REGISTRY_EXTENTS_H_
#define EVERMAP_REGISTRY_EXTENTS_H_

#include <atomic>
#include <cassert>
#include <cstdint>
#include <memory>

#include "registry/layout_description.h"
#include "registry/layout_words.h"

namespace evermap {

class Extents {
 public:
  Extents() = default;
  Extents(const Extents&) = delete;
  Extents& operator=(const Extents&) = delete;

  // Learns what is in the file `fd`, of which geometry.file_size_max bytes are mapped at `base`. Of
  // a layout without extents, all records are there. REQUIRES: called once, before all others; file
  // and mapping outlive the object.
  void Start(int fd, char* base, const layout::Geometry& geometry,
             const layout::LayoutDescription& description);

  // Whether record `index` is inside the file.
  bool HasRecord(uint32_t index) const {
    if (index < slots_.load(std::memory_order_acquire)) [[likely]]
      return true;
    return index < capacity_ && Learn() > index;
  }
  // Records inside the file, as far as known: those below this.
  uint32_t slots() const { return slots_.load(std::memory_order_acquire); }
  // Looks at the file anew; returns slots().
  uint32_t Learn() const;

  // The records of record extent `number`, behind the words about it.
  // REQUIRES: HasRecord() is true of one of them; the layout has extents.
  char* records(uint32_t number) const { return records_[number].load(std::memory_order_acquire); }

  // Extents inside the file, as far as known.
  uint32_t count() const { return layout::LowHalf(known_.load(std::memory_order_acquire)); }
  // The beginning of extent `number`, and its use. REQUIRES: number < count().
  char* at(uint32_t number) const {
    assert(number < count());
    return &base_[extents_offset_ + uint64_t{number} * extent_size_];
  }
  layout::ExtentUse use(uint32_t number) const;
  // The block that a record names by `block`, its number + 1; null when there is none inside the file.
  char* BlockAt(uint64_t block) const;

  // Whether to leave a reserve of memory to others: no program on the same file system should fail
  // because one more node registered.
  enum class Reserve : uint8_t { kKeep, kUse };
  // Makes the file longer by an extent, and gives it memory. False when that cannot be done (errno
  // says why), or the registry has all it can have. True also when another writer has added one
  // meanwhile, which may have another use. REQUIRES: mapped for writing.
  bool Add(layout::ExtentUse use, Reserve reserve);

 private:
  // Extents that are inside a file of `file_size` bytes.
  uint32_t CountIn(uint64_t file_size) const;
  layout::Word& UseWord(uint32_t number) const;

  int fd_ = -1;
  char* base_ = nullptr;
  uint32_t capacity_ = 0;
  uint64_t extents_offset_ = 0;
  uint64_t extent_size_ = 0;
  uint32_t extents_max_ = 0;
  uint32_t extent_records_ = 0;
  uint32_t extent_blocks_ = 0;
  uint32_t block_size_ = 0;
  uint32_t record_extents_max_ = 0;
  // Of the extents in use that this process has seen: all (low half), and those of records.
  mutable std::atomic<uint64_t> known_{0};
  mutable std::atomic<uint32_t> slots_{0};
  std::unique_ptr<std::atomic<char*>[]> records_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_EXTENTS_H_
