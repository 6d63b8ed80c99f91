#include "registry/writer_place.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <ctime>
#include <string>
#include <utility>

#include "registry/base/clock.h"
#include "registry/base/file_identity.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/location.h"

namespace evermap {
namespace {

constexpr off_t kOpeningByte = 0;
constexpr off_t kFirstPlaceByte = 1;
constexpr off_t kMapperByte = kFirstPlaceByte + kWritersMax;
constexpr int kOpeningPollMs = 5;

struct flock LockOf(off_t byte, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

// 0, or the errno of the failure.
int SetLock(int fd, off_t byte, short type) {
  struct flock lock = LockOf(byte, type);
  return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

OwnedFd OpenLockFile(const std::string& path, Problem& problem) {
  OwnedFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!fd.valid()) {
    const bool no_space = IsNoSpace(errno) || errno == EROFS;
    problem = {no_space ? Problem::Kind::kNoSpace : Problem::Kind::kUnacceptable,
               path + ": cannot be opened: " + ErrorText(errno) +
                   "; check it and its directory, or name another registry with -registry"};
    return fd;
  }
  struct stat file;
  if (fstat(fd.get(), &file) != 0) {
    problem = {Problem::Kind::kSystem, path + ": cannot be examined: " + ErrorText(errno)};
  } else if (!S_ISREG(file.st_mode) || file.st_uid != geteuid() ||
             (file.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    problem = {Problem::Kind::kUnacceptable,
               path + ": is not a file that only user " + std::to_string(geteuid()) +
                   " may open; remove it or name another registry with -registry"};
  }
  return fd;
}

// Another open file description of the file that is open as `fd`, which has locks of its own.
OwnedFd OpenAnew(int fd, const std::string& path, Problem& problem) {
  const std::string open_file = "/proc/self/fd/" + std::to_string(fd);
  OwnedFd anew(open(open_file.c_str(), O_RDWR | O_CLOEXEC));
  if (anew.valid()) return anew;
  const int error = errno;
  // Without /proc it is found by its name, if it still has that.
  anew = OpenLockFile(path, problem);
  if (!problem && anew.valid() && IdentityOf(anew.get()) == IdentityOf(fd)) return anew;
  problem = {Problem::Kind::kSystem,
             path + ": cannot be opened anew: " + ErrorText(error) + "; see that /proc is mounted"};
  return {};
}

// Waits for others that open the registry at `path`.
Problem LockOpeningByte(int fd, const std::string& path, int64_t deadline_ms) {
  while (true) {
    const int error = SetLock(fd, kOpeningByte, F_WRLCK);
    if (error == 0) return {};
    if (error != EAGAIN && error != EACCES && error != EINTR) {
      return {Problem::Kind::kSystem, LockPath(path) + ": cannot be locked: " + ErrorText(error) +
                                          "; keep the registry on a local file system (-registry)"};
    }
    if (MonotonicNs() / kNsPerMs >= deadline_ms) {
      return {Problem::Kind::kBusy,
              path + ": another process has been opening it for " +
                  std::to_string(kOpeningTimeoutMs / 1000) +
                  " s; find it with lslocks and end it, or name another with -registry"};
    }
    poll(nullptr, 0, kOpeningPollMs);
  }
}

}  // namespace

std::unique_ptr<WriterPlace> WriterPlace::Open(const std::string& path, Problem& problem) {
  const std::string lock_path = LockPath(path);
  const int64_t deadline_ms = MonotonicNs() / kNsPerMs + kOpeningTimeoutMs;
  while (true) {
    problem = {};
    OwnedFd fd = OpenLockFile(lock_path, problem);
    if (problem) return nullptr;
    problem = LockOpeningByte(fd.get(), path, deadline_ms);
    if (problem) return nullptr;
    // A file that was removed before it was locked keeps nobody out: others lock the next one.
    if (IdentityOf(fd.get()) == IdentityAt(lock_path)) {
      return std::unique_ptr<WriterPlace>(new WriterPlace(std::move(fd)));
    }
    if (MonotonicNs() / kNsPerMs >= deadline_ms) {
      problem = {Problem::Kind::kBusy,
                 lock_path +
                     ": is removed time and again; find out by whom, or name another "
                     "registry with -registry"};
      return nullptr;
    }
  }
}

std::unique_ptr<WriterPlace> WriterPlace::OpenIn(int lock_file, const std::string& path,
                                                 Problem& problem) {
  problem = {};
  OwnedFd fd = OpenAnew(lock_file, LockPath(path), problem);
  if (problem) return nullptr;
  problem = LockOpeningByte(fd.get(), path, MonotonicNs() / kNsPerMs + kOpeningTimeoutMs);
  if (problem) return nullptr;
  return std::unique_ptr<WriterPlace>(new WriterPlace(std::move(fd)));
}

OwnedFd WriterPlace::LockMapperByte(const std::string& path, Problem& problem) const {
  assert(is_opening_);
  OwnedFd fd = OpenAnew(fd_.get(), LockPath(path), problem);
  if (problem) return {};
  const int error = SetLock(fd.get(), kMapperByte, F_WRLCK);
  if (error == 0) return fd;
  if (error == EAGAIN || error == EACCES) {
    problem = {Problem::Kind::kHeld, path + ": another mapper has it"};
  } else {
    problem = {Problem::Kind::kSystem,
               LockPath(path) + ": cannot be locked: " + ErrorText(error) +
                   "; keep the registry on a local file system (-registry)"};
  }
  return {};
}

Problem WriterPlace::StartOpening(const std::string& path) {
  assert(!is_opening_);
  Problem problem = LockOpeningByte(fd_.get(), path, MonotonicNs() / kNsPerMs + kOpeningTimeoutMs);
  is_opening_ = !problem;
  return problem;
}

Problem WriterPlace::Take(const std::string& path) {
  assert(is_opening_ && number_ == kWritersMax);
  for (uint32_t place = 0; place < kWritersMax; ++place) {
    if (SetLock(fd_.get(), kFirstPlaceByte + static_cast<off_t>(place), F_WRLCK) == 0) {
      number_ = place;
      return {};
    }
  }
  return {Problem::Kind::kBusy, path + ": all " + std::to_string(kWritersMax) +
                                    " writers' places are taken; end some of them"};
}

void WriterPlace::FinishOpening() {
  assert(is_opening_);
  is_opening_ = false;
  // The call cannot fail, as the lock is held; if it did, closing the file would still drop the lock.
  SetLock(fd_.get(), kOpeningByte, F_UNLCK);
}

bool WriterPlace::IsAlive(uint32_t place) const {
  if (place == number_) return true;
  struct flock lock = LockOf(kFirstPlaceByte + static_cast<off_t>(place), F_WRLCK);
  if (fcntl(fd_.get(), F_OFD_GETLK, &lock) != 0) return true;
  return lock.l_type != F_UNLCK;
}

bool WriterPlace::HasCompany() const {
  for (uint32_t place = 0; place < kWritersMax; ++place) {
    if (place != number_ && IsAlive(place)) return true;
  }
  return false;
}

}  // namespace evermap
