#include "registry/extents.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "registry/segment_file.h"

namespace evermap {
namespace {

using layout::ExtentUse;
using layout::Word;

// What is left free on the file system: this, or its 64th part, if that is less.
constexpr uint64_t kReserveBytes = 1 << 20;
constexpr uint64_t kReservePart = 64;

// Whether the file system of `fd` has more than its reserve when it has given `bytes`. Also true where
// it has no bound, or does not tell.
bool LeavesReserve(int fd, uint64_t bytes) {
  struct statvfs state;
  if (fstatvfs(fd, &state) != 0 || state.f_blocks == 0) return true;
  const uint64_t all = uint64_t{state.f_blocks} * state.f_frsize;
  const uint64_t available = uint64_t{state.f_bavail} * state.f_frsize;
  return available >= bytes + std::min(kReserveBytes, all / kReservePart);
}

// A file that grows beyond the limit of its writer's process would end that (SIGXFSZ).
bool IsAllowed(uint64_t file_size) {
  struct rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
         file_size <= limit.rlim_cur;
}

}  // namespace

void Extents::Start(int fd, char* base, const layout::Geometry& geometry,
                    const layout::LayoutDescription& description) {
  fd_ = fd;
  base_ = base;
  capacity_ = geometry.capacity;
  extents_offset_ = geometry.extents_offset;
  extent_size_ = geometry.extent_size;
  extents_max_ = geometry.extents_max;
  extent_records_ = geometry.extent_records;
  extent_blocks_ = geometry.extent_blocks;
  block_size_ = description.block_size;
  if (extents_max_ == 0) {
    slots_.store(capacity_, std::memory_order_release);
    return;
  }
  record_extents_max_ = (capacity_ + extent_records_ - 1) / extent_records_;
  records_ = std::make_unique<std::atomic<char*>[]>(record_extents_max_);
  Learn();
}

uint32_t Extents::CountIn(uint64_t file_size) const {
  if (file_size <= extents_offset_) return 0;
  return static_cast<uint32_t>(
      std::min<uint64_t>((file_size - extents_offset_) / extent_size_, extents_max_));
}

Word& Extents::UseWord(uint32_t number) const {
  return *reinterpret_cast<Word*>(base_ + extents_offset_ + uint64_t{number} * extent_size_);
}

ExtentUse Extents::use(uint32_t number) const {
  assert(number < count());
  return static_cast<ExtentUse>(layout::Load(UseWord(number)));
}

uint32_t Extents::Learn() const {
  struct stat file;
  if (extents_max_ == 0 || fstat(fd_, &file) != 0) return slots();
  const uint32_t inside = CountIn(static_cast<uint64_t>(file.st_size));
  uint64_t known = known_.load(std::memory_order_acquire);
  uint32_t extents = 0;
  uint32_t of_records = 0;
  do {
    extents = layout::LowHalf(known);
    of_records = layout::HighHalf(known);
    for (; extents < inside; ++extents) {
      Word& word = UseWord(extents);
      const uint64_t use = layout::Load(word);
      if (use == static_cast<uint64_t>(ExtentUse::kBlocks)) continue;
      // One that is damaged, and all after it, are as if they were not there.
      if (use != static_cast<uint64_t>(ExtentUse::kRecords) || of_records == record_extents_max_) {
        break;
      }
      // All threads that do this at once store the same.
      records_[of_records++].store(reinterpret_cast<char*>(&word) + layout::kExtentHeadSize,
                                   std::memory_order_release);
    }
  } while (!known_.compare_exchange_weak(known, layout::Halves(extents, of_records),
                                         std::memory_order_acq_rel, std::memory_order_acquire));
  const uint32_t slots =
      static_cast<uint32_t>(std::min<uint64_t>(capacity_, uint64_t{of_records} * extent_records_));
  uint32_t before = slots_.load(std::memory_order_acquire);
  while (before < slots && !slots_.compare_exchange_weak(before, slots, std::memory_order_acq_rel,
                                                         std::memory_order_acquire)) {
  }
  return slots_.load(std::memory_order_acquire);
}

char* Extents::BlockAt(uint64_t block) const {
  if (block == 0 || extents_max_ == 0) return nullptr;
  const uint64_t extent = (block - 1) / extent_blocks_;
  if (extent >= count()) {
    if (extent >= extents_max_) return nullptr;
    Learn();
    if (extent >= count()) return nullptr;
  }
  return at(static_cast<uint32_t>(extent)) + layout::kExtentHeadSize +
         (block - 1) % extent_blocks_ * block_size_;
}

bool Extents::Add(ExtentUse use, Reserve reserve) {
  Learn();
  const uint32_t number = count();
  if (number >= extents_max_) {
    errno = ENOSPC;
    return false;
  }
  const uint64_t begin = extents_offset_ + uint64_t{number} * extent_size_;
  const uint64_t end = begin + extent_size_;
  struct stat file;
  if (fstat(fd_, &file) != 0) return false;
  // A writer that has died before it could use the extent may have left it.
  if (CountIn(static_cast<uint64_t>(file.st_size)) <= number) {
    if (!IsAllowed(end)) {
      errno = EFBIG;
      return false;
    }
    if (reserve == Reserve::kKeep && !LeavesReserve(fd_, extent_size_)) {
      errno = ENOSPC;
      return false;
    }
    if (!ExtendFile(fd_, begin, extent_size_)) return false;
  }
  const bool is_own = layout::Replace(UseWord(number), static_cast<uint64_t>(ExtentUse::kNone),
                                      static_cast<uint64_t>(use));
  Learn();
  // A damaged word stays what it is, and there is nothing to be had behind it.
  if (!is_own && count() <= number) errno = ENOSPC;
  return count() > number;
}

}  // namespace evermap
