#include "registry/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "registry/base/file_identity.h"

namespace evermap {

std::unique_ptr<Segment> Segment::Map(const std::string& path, SegmentAccess access,
                                      Problem& problem) {
  uint64_t file_size = 0;
  OwnedFd fd = OpenSegmentFile(path, access, file_size, problem);
  if (!fd.valid()) return nullptr;
  std::unique_ptr<Segment> segment(new Segment());
  if (!segment->MapOpen(path, std::move(fd), file_size, access, problem)) return nullptr;
  return segment;
}

std::unique_ptr<Segment> Segment::MapFile(const std::string& path, OwnedFd fd, SegmentAccess access,
                                          Problem& problem) {
  uint64_t file_size = 0;
  problem = ExamineSegmentFile(path, fd.get(), access, file_size);
  if (problem) return nullptr;
  std::unique_ptr<Segment> segment(new Segment());
  if (!segment->MapOpen(path, std::move(fd), file_size, access, problem)) return nullptr;
  return segment;
}

bool Segment::MapOpen(const std::string& path, OwnedFd fd, uint64_t file_size, SegmentAccess access,
                      Problem& problem) {
  const size_t header_size = std::min<uint64_t>(file_size, HeaderSizeMax());
  void* header = mmap(nullptr, header_size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (header == MAP_FAILED) {
    problem = SystemProblem(path, "cannot be mapped", errno);
    return false;
  }
  problem = CheckHeader(path, header, header_size, file_size, shape_);
  munmap(header, header_size);
  if (problem) return false;

  const int protection = access == SegmentAccess::kWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  // What the file has not yet costs address space alone.
  void* base = mmap(nullptr, shape_.geometry.file_size_max, protection, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) {
    problem = SystemProblem(path, "cannot be mapped", errno);
    return false;
  }
  base_ = static_cast<char*>(base);
  fd_ = std::move(fd);
  extents_.Start(fd_.get(), base_, shape_.geometry, *shape_.description);
  if (shape_.description->version != layout::kLayoutVersion) return true;
  const layout::Geometry& g = shape_.geometry;
  header_ = static_cast<layout::Header*>(base);
  statistics_ = reinterpret_cast<WorkerStatistics*>(base_ + g.statistics_offset);
  buckets_ = reinterpret_cast<layout::Word*>(base_ + g.buckets_offset);
  return true;
}

Segment::~Segment() {
  if (base_ != nullptr) munmap(base_, shape_.geometry.file_size_max);
}

uint32_t Segment::high_water() const {
  const uint64_t used = header_->high_water.load(std::memory_order_acquire);
  uint32_t slots = extents_.slots();
  if (used > slots && slots < capacity()) slots = extents_.Learn();
  return static_cast<uint32_t>(std::min<uint64_t>(used, slots));
}

void MoveTo(const OwnedFd& fd, Segment& segment) {
  char* const base = const_cast<char*>(segment.at<char>(0));
  const void* const mapped = mmap(base, segment.geometry().file_size_max, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_FIXED, fd.get(), 0);
  const int moved = dup3(fd.get(), segment.fd(), O_CLOEXEC);
  // Neither takes more of anything than there was. If one fails the mapping may be gone already, and
  // the next mapper goes on from the files.
  assert(mapped == base && moved == segment.fd());
}

bool IsNamed(const Segment& segment, const std::string& path) {
  return IdentityOf(segment.fd()) == IdentityAt(path);
}

}  // namespace evermap
