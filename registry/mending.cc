#include "registry/mending.h"

#include <fcntl.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <utility>

#include "registry/base/file_identity.h"
#include "registry/copy.h"
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
  file_ = BeginCopy(new_path, old);
  if (!file_.valid()) {
    problem = SystemProblem(path_, "cannot be put back", errno);
    unlink(new_path.c_str());
  }
  return problem;
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
  if (!problem && file_.valid()) {
    const int error = FinishCopy(*claim_.registry_->segment_, file_.get());
    if (error != 0) problem = SystemProblem(path_, "cannot be copied", error);
  }
  if (problem) return ToStatus(problem);
  outdated_.clear();
  RegistryOwner owner = ReadOwner(*claim_.registry_->segment_);
  if (lock_.valid()) owner.lock = IdentityOf(lock_.get());
  Segment& segment = *claim_.registry_->segment_;
  const OwnedFd old(fcntl(segment.fd(), F_DUPFD_CLOEXEC, 0));
  const bool is_copied = file_.valid();
  if (is_copied) {
    outdated_.push_back(StoredName(segment.fd()));
    MoveTo(std::exchange(file_, OwnedFd()), segment);
  }
  if (lock_.valid()) WriteOwner(owner, segment);
  if (is_copied) {
    layout::Store(segment.superseded(), 0);
    problem = TakeName(path_, MigratingPath(path_), LocksOf(lock_, claim_.lock_));
    WriteSupersededMark(old.get());
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

}  // namespace evermap
