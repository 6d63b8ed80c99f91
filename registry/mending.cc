#include "registry/mending.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "registry/base/file_identity.h"
#include "registry/layout.h"
#include "registry/location.h"
#include "registry/migration.h"
#include "registry/opening.h"
#include "registry/owner.h"
#include "registry/segment.h"
#include "registry/segment_file.h"
#include "registry/writer_place.h"

namespace evermap {
namespace {

constexpr mode_t kFileMode = 0644;
// What is given memory together with the data before it: a writer may count on as much (slab.cc).
constexpr uint64_t kCommitBytes = 256 * 1024;

// The first page of a registry file, marked as superseded.
using Page = std::array<char, layout::kPageSize>;
Page SupersededHeader(const Segment& segment) {
  Page page;
  std::memcpy(page.data(), segment.at<char>(0), page.size());
  const uint64_t is_superseded = 1;
  std::memcpy(page.data() + layout::kSupersededAt, &is_superseded, sizeof(is_superseded));
  return page;
}

// An errno, or 0.
int WriteAll(int fd, const char* data, uint64_t size, uint64_t offset) {
  while (size > 0) {
    const ssize_t written = pwrite(fd, data, size, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : ENOSPC;
    data += written;
    offset += static_cast<uint64_t>(written);
    size -= static_cast<uint64_t>(written);
  }
  return 0;
}

// Copies all but the first page to file `to`, which gets as much memory as the old one has. Holes stay
// holes. An errno, or 0.
int CopyContent(const Segment& from, int to, uint64_t size) {
  uint64_t at = layout::kPageSize;
  while (at < size) {
    const off_t data = lseek(from.fd(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return 0;  // nothing but a hole is left
    const off_t hole = data < 0 ? -1 : lseek(from.fd(), data, SEEK_HOLE);
    // A file system that does not tell holes has none.
    const uint64_t begin = data < 0 ? at : static_cast<uint64_t>(data);
    const uint64_t end = hole < 0 ? size : std::min(static_cast<uint64_t>(hole), size);
    const uint64_t committed = std::min((end / kCommitBytes + 2) * kCommitBytes, size);
    if (!CommitRange(to, begin, committed - begin)) return errno;
    if (const int error = WriteAll(to, from.at<char>(begin), end - begin, begin); error != 0) {
      return error;
    }
    at = end;
  }
  return 0;
}

// `lock` may be invalid.
OwnLocks LocksOf(const OwnedFd& lock, const OwnedFd& former) {
  const FileIdentity identity_of_former = IdentityOf(former.get());
  return {lock.valid() ? IdentityOf(lock.get()) : identity_of_former, identity_of_former};
}

}  // namespace

Mending::Mending(Claim& claim) : claim_(claim) {}

Mending::~Mending() {
  if (is_opening_) claim_.registry_->place_->FinishOpening();
  if (file_.valid()) unlink(MigratingPath(path_).c_str());
}

absl::Status Mending::Begin(const std::string& path) {
  assert(path_.empty() && !path.empty());
  path_ = path;
  Problem problem = TakeLock();
  if (!problem && !IsNamed(*claim_.registry_->segment_, path_)) problem = MakeFile();
  for (const Claim::File& file : files()) outdated_.push_back(file.name);
  return ToStatus(problem);
}

// The opening lock beside the path, and the mapper's, which is this claim's already or is free.
Problem Mending::TakeLock() {
  if (IdentityAt(LockPath(path_)) == IdentityOf(claim_.lock_.get())) {
    Problem problem = claim_.registry_->place_->StartOpening(path_);
    is_opening_ = !problem;
    return problem;
  }
  Problem problem;
  place_ = WriterPlace::Open(path_, problem);
  if (place_ != nullptr) lock_ = place_->LockMapperByte(path_, problem);
  return problem;
}

Problem Mending::MakeFile() {
  const Segment& old = *claim_.registry_->segment_;
  Problem problem = MayTakeName(path_, LocksOf(lock_, claim_.lock_));
  if (problem) return problem;
  const std::string new_path = MigratingPath(path_);
  unlink(new_path.c_str());
  OwnedFd fd(open(new_path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  struct stat file;
  if (!fd.valid() || fstat(old.fd(), &file) != 0) {
    return SystemProblem(path_, "cannot be put back", errno);
  }
  file_ = std::move(fd);
  const Page header = SupersededHeader(old);
  int error = fchmod(file_.get(), kFileMode) != 0 || ftruncate(file_.get(), file.st_size) != 0 ||
                      !CommitRange(file_.get(), 0, old.geometry().records_offset)
                  ? errno
                  : 0;
  if (error == 0) error = WriteAll(file_.get(), header.data(), header.size(), 0);
  if (error != 0) return SystemProblem(path_, "cannot be put back", error);
  return {};
}

std::vector<Claim::File> Mending::files() const {
  std::vector<Claim::File> files;
  if (lock_.valid()) files.push_back({StoredName(lock_.get()), lock_.get()});
  if (file_.valid()) files.push_back({StoredName(file_.get()), file_.get()});
  return files;
}

absl::Status Mending::Finish() {
  Problem problem;
  if (place_ != nullptr) problem = place_->Take(path_);
  if (!problem && file_.valid()) problem = Fill();
  if (problem) return ToStatus(problem);
  outdated_.clear();
  RegistryOwner owner = ReadOwner(*claim_.registry_->segment_);
  if (lock_.valid()) owner.lock = IdentityOf(lock_.get());
  Segment& segment = *claim_.registry_->segment_;
  const OwnedFd old(fcntl(segment.fd(), F_DUPFD_CLOEXEC, 0));
  const bool is_copied = file_.valid();
  if (is_copied) {
    outdated_.push_back(StoredName(segment.fd()));
    segment.MoveTo(std::exchange(file_, OwnedFd()));
  }
  if (lock_.valid()) WriteOwner(owner, segment);
  if (is_copied) {
    layout::Store(segment.superseded(), 0);
    problem = TakeName(path_, MigratingPath(path_), LocksOf(lock_, claim_.lock_));
    const uint64_t is_superseded = 1;
    WriteAll(old.get(), reinterpret_cast<const char*>(&is_superseded), sizeof(is_superseded),
             layout::kSupersededAt);
  }
  if (lock_.valid()) {
    outdated_.push_back(StoredName(claim_.lock_.get()));
    *claim_.registry_->place_ = std::move(*place_);
    claim_.lock_ = std::move(lock_);
    is_opening_ = true;
  }
  claim_.path_ = path_;
  claim_.registry_->path_ = path_;
  return ToStatus(problem);
}

Problem Mending::Fill() {
  const Segment& old = *claim_.registry_->segment_;
  struct stat file;
  int error = fstat(old.fd(), &file) != 0 || ftruncate(file_.get(), file.st_size) != 0 ? errno : 0;
  const Page header = SupersededHeader(old);
  if (error == 0) error = WriteAll(file_.get(), header.data(), header.size(), 0);
  if (error == 0) error = CopyContent(old, file_.get(), static_cast<uint64_t>(file.st_size));
  // The name must not reach a disk before the content. In memory this does nothing.
  if (error == 0 && fsync(file_.get()) != 0) error = errno;
  if (error != 0) return SystemProblem(path_, "cannot be copied", error);
  return {};
}

}  // namespace evermap
