#include "registry/segment_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>

#include "registry/base/clock.h"
#include "registry/base/path.h"
#include "registry/base/text.h"
#include "registry/layout.h"

namespace evermap {
namespace {

constexpr mode_t kSegmentMode = 0644;
constexpr mode_t kPermissions = 07777;
// Signals that may interrupt one system call before it counts as failed.
constexpr int kInterruptionsMax = 1000;
// Temporary names that are tried before creation counts as failed.
constexpr int kTemporaryNamesMax = 100;

constexpr char kRemoveHint[] = "; remove it or name another with -registry";

Problem Unacceptable(const std::string& path, const std::string& what,
                     const std::string& hint = kRemoveHint) {
  return {Problem::Kind::kUnacceptable, path + ": " + what + hint};
}

Problem ExamineFile(const std::string& path, int fd, int directory_fd, SegmentAccess access,
                    uint64_t& file_size) {
  struct stat file;
  if (fstat(fd, &file) != 0) return SystemProblem(path, "cannot be examined", errno);
  if (!S_ISREG(file.st_mode)) return Unacceptable(path, "is not a regular file");
  if ((file.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Unacceptable(path, "may be written by other users than its owner",
                        "; remove it, or set its mode to 0644 if you trust what is in it");
  }
  const std::string owner = std::to_string(file.st_uid);
  if (file.st_uid != geteuid()) {
    if (access == SegmentAccess::kWrite) {
      return Unacceptable(path,
                          "belongs to user " + owner + ", not to user " +
                              std::to_string(geteuid()) + " who runs this",
                          "; run as its owner or name another registry with -registry");
    }
    struct stat directory;
    if (fstat(directory_fd, &directory) != 0) {
      return SystemProblem(DirectoryOf(path), "cannot be examined", errno);
    }
    if (file.st_uid != 0 &&
        (directory.st_uid != file.st_uid || (directory.st_mode & (S_IWGRP | S_IWOTH)) != 0)) {
      return Unacceptable(path,
                          "belongs to user " + owner +
                              ", who is neither you nor root nor alone in charge of its directory",
                          "; name a registry of the system's or your own mapper");
    }
  }
  if (file.st_size < static_cast<off_t>(layout::kHeaderSizeMin)) {
    return Unacceptable(path, "is truncated (" + std::to_string(file.st_size) + " bytes)");
  }
  file_size = static_cast<uint64_t>(file.st_size);
  return {};
}

// A file without a name, if that is wanted and can be had, or (`temporary_name` not empty) with one
// that is to be removed.
OwnedFd MakeUnnamedFile(int directory_fd, const std::string& base, bool wants_no_name,
                        std::string& temporary_name) {
  temporary_name.clear();
  OwnedFd fd;
  if (wants_no_name) {
    fd = OwnedFd(openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, kSegmentMode));
  }
  if (fd.valid()) {
    // Giving it a name takes /proc, which a container may lack.
    const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
    if (access(link.c_str(), F_OK) == 0) return fd;
  }
  for (int i = 0; i < kTemporaryNamesMax; ++i) {
    temporary_name = "." + base + "." + std::to_string(getpid()) + "." + std::to_string(i);
    fd = OwnedFd(openat(directory_fd, temporary_name.c_str(),
                        O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, kSegmentMode));
    if (fd.valid() || errno != EEXIST) break;
  }
  return fd;
}

// Makes a file at least `size` bytes long where the file system cannot give memory otherwise. What two
// processes append at once lies one behind the other, so neither overwrites anything.
bool AppendZeros(int fd, uint64_t size) {
  static constexpr std::array<char, 65'536> kZeros = {};
  for (int interruptions = 0; interruptions < kInterruptionsMax;) {
    struct stat file;
    if (fstat(fd, &file) != 0) return false;
    const uint64_t has = static_cast<uint64_t>(file.st_size);
    if (has >= size) return true;
    iovec zeros = {const_cast<char*>(kZeros.data()),
                   static_cast<size_t>(std::min<uint64_t>(kZeros.size(), size - has))};
    if (pwritev2(fd, &zeros, 1, 0, RWF_APPEND) < 0) {
      if (errno != EINTR) return false;
      ++interruptions;
    }
  }
  return false;
}

// The origin of a registry that is made now.
Problem NewOrigin(const std::string& path, uint32_t capacity, SegmentOrigin& origin) {
  origin.capacity = capacity;
  for (int i = 0;; ++i) {
    const ssize_t got = getrandom(&origin.hash_key, sizeof(origin.hash_key), 0);
    if (got == static_cast<ssize_t>(sizeof(origin.hash_key))) break;
    if (i == kInterruptionsMax || (got < 0 && errno != EINTR)) {
      // The call is refused.
      const OwnedFd random(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
      if (random.valid() && read(random.get(), &origin.hash_key, sizeof(origin.hash_key)) ==
                                static_cast<ssize_t>(sizeof(origin.hash_key))) {
        break;
      }
      return SystemProblem(path, "no random key to be had", errno);
    }
  }
  origin.created_unix_ns = static_cast<uint64_t>(UnixNs());
  origin.boot = CurrentBootId();
  return {};
}

// Fills new file `fd` with an empty registry.
Problem Fill(const std::string& path, int fd, const SegmentOrigin& origin) {
  const layout::Geometry geometry = layout::GeometryFor(origin.capacity);
  if (!ExtendFile(fd, 0, geometry.file_size_min)) {
    return SystemProblem(path,
                         "no memory for the " + std::to_string(geometry.file_size_min) +
                             " bytes that a registry starts with",
                         errno);
  }
  void* base = mmap(nullptr, sizeof(layout::Header), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return SystemProblem(path, "cannot be mapped", errno);
  WriteHeader(layout::kDescription, origin, base);
  munmap(base, sizeof(layout::Header));
  // The umask must not decide which users can read the registry.
  struct stat file;
  const bool is_readable = fstat(fd, &file) == 0 && (file.st_mode & kPermissions) == kSegmentMode;
  if (!is_readable && fchmod(fd, kSegmentMode) != 0)
    return SystemProblem(path, "cannot be made readable", errno);
  return {};
}

// Gives the file from MakeUnnamedFile() its name, unless a file has that. Returns 0 or an errno.
int GiveName(int fd, int directory_fd, const std::string& temporary_name, const std::string& base) {
  if (temporary_name.empty()) {
    const std::string open_file = "/proc/self/fd/" + std::to_string(fd);
    return linkat(AT_FDCWD, open_file.c_str(), directory_fd, base.c_str(), AT_SYMLINK_FOLLOW) == 0
               ? 0
               : errno;
  }
  const char* const temporary = temporary_name.c_str();
  // Some file systems have no links.
  if (linkat(directory_fd, temporary, directory_fd, base.c_str(), 0) == 0) return 0;
  if (errno == EEXIST) return errno;
  return renameat2(directory_fd, temporary, directory_fd, base.c_str(), RENAME_NOREPLACE) == 0
             ? 0
             : errno;
}

OwnedFd OpenDirectory(const std::string& path, Problem& problem) {
  const std::string directory = DirectoryOf(path);
  OwnedFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // A reader may be allowed to pass through a directory, but not to list it.
  if (!fd.valid() && errno == EACCES) {
    fd = OwnedFd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  if (fd.valid()) return fd;
  if (errno == ENOENT || errno == ENOTDIR) {
    problem = {Problem::Kind::kNotFound,
               path + ": its directory " + directory +
                   " does not exist; make it or name another registry with -registry"};
  } else {
    problem = SystemProblem(directory, "cannot be opened", errno);
  }
  return fd;
}

}  // namespace

Problem SystemProblem(const std::string& path, const std::string& what, int error) {
  const bool no_space = IsNoSpace(error);
  return {no_space ? Problem::Kind::kNoSpace : Problem::Kind::kSystem,
          path + ": " + what + ": " + ErrorText(error) +
              (no_space ? "; make room there or name another place with -registry"
                        : "; check it and its directory, or name another with -registry")};
}

bool ExtendFile(int fd, uint64_t offset, uint64_t bytes) {
  for (int i = 0; i < kInterruptionsMax; ++i) {
    if (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0) return true;
    if (IsNoSpace(errno) || errno == EFBIG) return false;
    // The file system cannot do that, or the call is refused.
    if (errno != EINTR) return AppendZeros(fd, offset + bytes);
  }
  return false;
}

int TouchFile(int fd) {
  // With the time of the last access as well it would be another event of inotify(7).
  const timespec times[] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                            {.tv_sec = 0, .tv_nsec = UTIME_NOW}};
  return futimens(fd, times) == 0 ? 0 : errno;
}

OwnedFd OpenSegmentFile(const std::string& path, SegmentAccess access, uint64_t& file_size,
                        Problem& problem) {
  problem = {};
  const OwnedFd directory = OpenDirectory(path, problem);
  if (!directory.valid()) return {};
  const bool write = access == SegmentAccess::kWrite;
  // Without blocking, in case it is a FIFO.
  OwnedFd fd(openat(directory.get(), BaseNameOf(path).c_str(),
                    (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) {
    switch (errno) {
      case ENOENT:
        problem = {
            Problem::Kind::kNotFound,
            path +
                ": no registry there; start the mapper, or name the registry of the one that "
                "runs (epmdctl doctor)"};
        break;
      case ELOOP:
        problem = Unacceptable(path, "is a symbolic link");
        break;
      case EISDIR:
      case ENXIO:
        problem = Unacceptable(path, "is not a regular file");
        break;
      case EACCES:
        problem = Unacceptable(path, "may not be opened by user " + std::to_string(geteuid()),
                               "; run as its owner or name another registry with -registry");
        break;
      default:
        problem = SystemProblem(path, "cannot be opened", errno);
    }
    return {};
  }
  problem = ExamineFile(path, fd.get(), directory.get(), access, file_size);
  if (problem) return {};
  return fd;
}

Problem CreateSegmentFile(const std::string& path, uint32_t capacity) {
  assert(capacity >= 1 && capacity <= kRegistryCapacityMax);
  Problem problem;
  const OwnedFd directory = OpenDirectory(path, problem);
  if (!directory.valid()) return problem;
  SegmentOrigin origin;
  problem = NewOrigin(path, capacity, origin);
  if (problem) return problem;
  const std::string base = BaseNameOf(path);
  for (const bool wants_no_name : {true, false}) {
    std::string temporary_name;
    const OwnedFd fd = MakeUnnamedFile(directory.get(), base, wants_no_name, temporary_name);
    if (!fd.valid()) return SystemProblem(path, "cannot be created", errno);
    problem = Fill(path, fd.get(), origin);
    const int error = problem ? 0 : GiveName(fd.get(), directory.get(), temporary_name, base);
    if (!temporary_name.empty()) unlinkat(directory.get(), temporary_name.c_str(), 0);
    if (problem || error == 0 || error == EEXIST) return problem;
    problem = SystemProblem(path, "cannot be created", error);
    if (!temporary_name.empty()) return problem;
  }
  return problem;
}

Problem ExamineSegmentFile(const std::string& path, int fd, SegmentAccess access,
                           uint64_t& file_size) {
  return ExamineFile(path, fd, -1, access, file_size);
}

OwnedFd CreateUnnamedSegmentFile(const std::string& path, uint32_t capacity, Problem& problem) {
  assert(capacity >= 1 && capacity <= kRegistryCapacityMax);
  SegmentOrigin origin;
  problem = NewOrigin(path, capacity, origin);
  if (problem) return {};
  OwnedFd fd(memfd_create("epmd-registry", MFD_CLOEXEC));
  if (!fd.valid()) {
    problem = SystemProblem(path, "no memory for a registry without a file", errno);
    return {};
  }
  problem = Fill(path, fd.get(), origin);
  if (problem) return {};
  return fd;
}

OwnedFd CreateSegmentFileAt(const std::string& path, const SegmentOrigin& origin,
                            Problem& problem) {
  OwnedFd fd(open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, kSegmentMode));
  if (!fd.valid()) {
    problem = SystemProblem(path, "cannot be created", errno);
    return fd;
  }
  problem = Fill(path, fd.get(), origin);
  if (problem) return {};
  return fd;
}

}  // namespace evermap
