#include "registry/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/path.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

using layout::Geometry;
using layout::Header;
using layout::Load;

constexpr mode_t kSegmentMode = 0644;
// Signals that may interrupt one system call before it counts as failed.
constexpr int kInterruptionsMax = 1000;
// Temporary names that are tried before creation counts as failed.
constexpr int kTemporaryNamesMax = 100;
// The fingerprint guards against damage, not against forgers: its key is no secret.
constexpr SipHashKey kFingerprintKey{0x6576657267726565, 0x6e2d6d6170706572};

constexpr char kRemoveHint[] = "; remove it or name another with -registry";

Problem SystemProblem(const std::string& path, const std::string& what, int error) {
  const bool no_space = error == ENOSPC || error == EDQUOT || error == ENOMEM;
  return {no_space ? Problem::Kind::kNoSpace : Problem::Kind::kSystem,
          path + ": " + what + ": " + ErrorText(error) +
              (no_space ? "; make room there or name another place with -registry"
                        : "; check it and its directory, or name another with -registry")};
}

Problem Unacceptable(const std::string& path, const std::string& what,
                     const std::string& hint = kRemoveHint) {
  return {Problem::Kind::kUnacceptable, path + ": " + what + hint};
}

uint64_t Fingerprint(const Header& header) {
  // All members are words, so the covered ones are the first of an array of them.
  std::array<uint64_t, layout::kFingerprintWords> words = {
      Load(header.magic),
      Load(header.version_and_header_size),
      Load(header.file_size),
      Load(header.capacity_and_buckets),
      Load(header.record_and_overflow_size),
      Load(header.statistics_offset),
      Load(header.buckets_offset),
      Load(header.records_offset),
      Load(header.overflow_offset),
      Load(header.hash_key[0]),
      Load(header.hash_key[1]),
      Load(header.created_unix_ns),
  };
  std::array<char, sizeof(words)> bytes;
  std::memcpy(bytes.data(), words.data(), sizeof(words));
  return SipHash<2, 4>(kFingerprintKey, {bytes.data(), bytes.size()});
}

void WriteHeader(const Geometry& g, const SegmentOrigin& origin, Header& header) {
  const auto store = [](layout::Word& word, uint64_t value) {
    word.store(value, std::memory_order_release);
  };
  store(header.magic, layout::kMagic);
  store(header.version_and_header_size, layout::Halves(layout::kLayoutVersion, sizeof(Header)));
  store(header.file_size, g.file_size);
  store(header.capacity_and_buckets, layout::Halves(g.capacity, g.buckets));
  store(header.record_and_overflow_size,
        layout::Halves(layout::kRecordSize, layout::kOverflowSize));
  store(header.statistics_offset, g.statistics_offset);
  store(header.buckets_offset, g.buckets_offset);
  store(header.records_offset, g.records_offset);
  store(header.overflow_offset, g.overflow_offset);
  store(header.hash_key[0], origin.hash_key.low);
  store(header.hash_key[1], origin.hash_key.high);
  store(header.created_unix_ns, origin.created_unix_ns);
  store(header.fingerprint, Fingerprint(header));
  store(header.boot_id[0], origin.boot[0]);
  store(header.boot_id[1], origin.boot[1]);
}

// Fills `geometry` and `key` from a header that fits its file.
Problem CheckHeader(const std::string& path, const Header& header, uint64_t file_size,
                    Geometry& geometry, SipHashKey& key) {
  const auto load = [](const layout::Word& word) { return word.load(std::memory_order_acquire); };
  if (load(header.magic) != layout::kMagic) {
    return Unacceptable(path, "is not a registry (wrong magic)");
  }
  const uint32_t version = layout::LowHalf(load(header.version_and_header_size));
  if (version > layout::kLayoutVersion) {
    return {Problem::Kind::kNewer,
            path + ": has layout version " + std::to_string(version) +
                " from a newer version of Evermap than this one, which knows " +
                std::to_string(layout::kLayoutVersion) +
                "; run the newer version, or name another registry with -registry"};
  }
  if (version < layout::kLayoutVersionOldest) {
    return Unacceptable(path, "has unknown layout version " + std::to_string(version));
  }
  if (load(header.fingerprint) != Fingerprint(header)) {
    return Unacceptable(path, "is damaged (its header does not match its checksum)");
  }
  const uint32_t capacity = layout::LowHalf(load(header.capacity_and_buckets));
  if (capacity == 0 || capacity > kRegistryCapacityMax) {
    return Unacceptable(path, "is damaged (impossible capacity)");
  }
  const Geometry expected = layout::GeometryFor(capacity, version);
  if (load(header.version_and_header_size) != layout::Halves(version, sizeof(Header)) ||
      load(header.file_size) != expected.file_size ||
      load(header.capacity_and_buckets) != layout::Halves(capacity, expected.buckets) ||
      load(header.record_and_overflow_size) !=
          layout::Halves(layout::kRecordSize, layout::kOverflowSize) ||
      load(header.statistics_offset) != expected.statistics_offset ||
      load(header.buckets_offset) != expected.buckets_offset ||
      load(header.records_offset) != expected.records_offset ||
      load(header.overflow_offset) != expected.overflow_offset) {
    return Unacceptable(path, "is damaged (sizes in its header do not fit together)");
  }
  if (file_size != expected.file_size) {
    return Unacceptable(path, "is truncated or has grown (" + std::to_string(file_size) +
                                  " bytes instead of " + std::to_string(expected.file_size) + ")");
  }
  geometry = expected;
  key = {load(header.hash_key[0]), load(header.hash_key[1])};
  return {};
}

Problem CheckFile(const std::string& path, int fd, int directory_fd, Segment::Access access,
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
    if (access == Segment::Access::kWrite) {
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
  if (file.st_size < static_cast<off_t>(sizeof(Header))) {
    return Unacceptable(path, "is truncated (" + std::to_string(file.st_size) + " bytes)");
  }
  file_size = static_cast<uint64_t>(file.st_size);
  return {};
}

// False: no memory. An errno other than that of a file system without fallocate counts as such.
bool CommitFd(int fd, uint64_t offset, uint64_t bytes) {
  for (int i = 0; i < kInterruptionsMax; ++i) {
    if (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0) return true;
    if (errno == EOPNOTSUPP || errno == ENOSYS) return true;
    if (errno != EINTR) return false;
  }
  return false;
}

// A file without a name, or (`temporary_name` not empty) with one that is to be removed.
OwnedFd MakeUnnamedFile(int directory_fd, const std::string& base, std::string& temporary_name) {
  temporary_name.clear();
  OwnedFd fd(openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, kSegmentMode));
  if (fd.valid()) {
    // Naming it takes /proc, which a container may lack.
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

// The origin of a registry that is made now.
Problem NewOrigin(const std::string& path, uint32_t capacity, SegmentOrigin& origin) {
  origin.capacity = capacity;
  for (int i = 0;; ++i) {
    const ssize_t got = getrandom(&origin.hash_key, sizeof(origin.hash_key), 0);
    if (got == static_cast<ssize_t>(sizeof(origin.hash_key))) break;
    if (i == kInterruptionsMax || (got < 0 && errno != EINTR)) {
      return SystemProblem(path, "no random key to be had", errno);
    }
  }
  origin.created_unix_ns = UnixNs();
  origin.boot = CurrentBootId();
  return {};
}

// Fills a new file with an empty registry.
Problem Fill(const std::string& path, int fd, const SegmentOrigin& origin) {
  const Geometry geometry = layout::GeometryFor(origin.capacity);
  if (ftruncate(fd, static_cast<off_t>(geometry.file_size)) != 0) {
    return SystemProblem(
        path, "cannot be made " + std::to_string(geometry.file_size) + " bytes long", errno);
  }
  if (!CommitFd(fd, 0, geometry.records_offset)) {
    return SystemProblem(path,
                         "no memory for the " + std::to_string(geometry.records_offset) +
                             " bytes that a registry starts with",
                         errno);
  }
  void* base = mmap(nullptr, sizeof(Header), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return SystemProblem(path, "cannot be mapped", errno);
  WriteHeader(geometry, origin, *static_cast<Header*>(base));
  munmap(base, sizeof(Header));
  // The umask must not decide who can read the registry.
  if (fchmod(fd, kSegmentMode) != 0) return SystemProblem(path, "cannot be made readable", errno);
  return {};
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

BootId CurrentBootId() {
  BootId id = {0, 0};
  OwnedFd fd(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return id;
  char text[64];
  const ssize_t size = read(fd.get(), text, sizeof(text));
  int digits = 0;
  for (ssize_t i = 0; i < size && digits < 32; ++i) {
    const char c = text[i];
    uint64_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint64_t>(c - 'a') + 10;
    } else {
      continue;  // the hyphens of a UUID
    }
    uint64_t& half = id[digits < 16 ? 0 : 1];
    half = (half << 4) | digit;
    ++digits;
  }
  return digits == 32 ? id : BootId{0, 0};
}

std::unique_ptr<Segment> Segment::Map(const std::string& path, Access access, Problem& problem) {
  problem = {};
  const OwnedFd directory = OpenDirectory(path, problem);
  if (!directory.valid()) return nullptr;
  const bool write = access == Access::kWrite;
  // Not blocking, in case it is a FIFO.
  OwnedFd fd(openat(directory.get(), BaseNameOf(path).c_str(),
                    (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) {
    switch (errno) {
      case ENOENT:
        problem = {Problem::Kind::kNotFound, path + ": no registry there; start the mapper first"};
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
    return nullptr;
  }
  uint64_t file_size = 0;
  problem = CheckFile(path, fd.get(), directory.get(), access, file_size);
  if (problem) return nullptr;

  std::unique_ptr<Segment> segment(new Segment());
  if (!segment->MapOpen(path, std::move(fd), file_size, access, problem)) return nullptr;
  return segment;
}

bool Segment::MapOpen(const std::string& path, OwnedFd fd, uint64_t file_size, Access access,
                      Problem& problem) {
  void* first_page = mmap(nullptr, sizeof(Header), PROT_READ, MAP_SHARED, fd.get(), 0);
  if (first_page == MAP_FAILED) {
    problem = SystemProblem(path, "cannot be mapped", errno);
    return false;
  }
  problem = CheckHeader(path, *static_cast<Header*>(first_page), file_size, geometry_, hash_key_);
  munmap(first_page, sizeof(Header));
  if (problem) return false;

  const int protection = access == Access::kWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* base = mmap(nullptr, file_size, protection, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) {
    problem = SystemProblem(path, "cannot be mapped", errno);
    return false;
  }
  base_ = base;
  fd_ = std::move(fd);
  char* bytes = static_cast<char*>(base);
  header_ = static_cast<Header*>(base);
  statistics_ = bytes + geometry_.statistics_offset;
  buckets_ = reinterpret_cast<layout::Word*>(bytes + geometry_.buckets_offset);
  records_ = reinterpret_cast<layout::Record*>(bytes + geometry_.records_offset);
  overflow_ = reinterpret_cast<layout::OverflowBlock*>(bytes + geometry_.overflow_offset);
  return true;
}

Problem Segment::Create(const std::string& path, uint32_t capacity) {
  Problem problem;
  const OwnedFd directory = OpenDirectory(path, problem);
  if (!directory.valid()) return problem;
  SegmentOrigin origin;
  problem = NewOrigin(path, capacity, origin);
  if (problem) return problem;
  const std::string base = BaseNameOf(path);
  std::string temporary_name;
  const OwnedFd fd = MakeUnnamedFile(directory.get(), base, temporary_name);
  if (!fd.valid()) return SystemProblem(path, "cannot be created", errno);
  problem = Fill(path, fd.get(), origin);
  if (!problem) {
    int linked = 0;
    if (temporary_name.empty()) {
      const std::string open_file = "/proc/self/fd/" + std::to_string(fd.get());
      linked =
          linkat(AT_FDCWD, open_file.c_str(), directory.get(), base.c_str(), AT_SYMLINK_FOLLOW);
    } else {
      linked = linkat(directory.get(), temporary_name.c_str(), directory.get(), base.c_str(), 0);
    }
    if (linked != 0 && errno != EEXIST) problem = SystemProblem(path, "cannot be created", errno);
  }
  if (!temporary_name.empty()) unlinkat(directory.get(), temporary_name.c_str(), 0);
  return problem;
}

std::unique_ptr<Segment> Segment::CreateAt(const std::string& path, const SegmentOrigin& origin,
                                           Problem& problem) {
  OwnedFd fd(open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, kSegmentMode));
  if (!fd.valid()) {
    problem = SystemProblem(path, "cannot be created", errno);
    return nullptr;
  }
  problem = Fill(path, fd.get(), origin);
  if (problem) return nullptr;
  std::unique_ptr<Segment> segment(new Segment());
  const uint64_t file_size = layout::GeometryFor(origin.capacity).file_size;
  if (!segment->MapOpen(path, std::move(fd), file_size, Access::kWrite, problem)) return nullptr;
  return segment;
}

Segment::~Segment() {
  if (base_ != nullptr) munmap(base_, geometry_.file_size);
}

uint32_t Segment::high_water() const {
  const uint64_t used = header_->high_water.load(std::memory_order_acquire);
  return used < geometry_.capacity ? static_cast<uint32_t>(used) : geometry_.capacity;
}

bool Segment::Commit(uint64_t offset, uint64_t bytes) const {
  return CommitFd(fd_.get(), offset, bytes);
}

int Segment::Synchronize() const { return fsync(fd_.get()) == 0 ? 0 : errno; }

bool Segment::IsNamed(const std::string& path) const {
  struct stat mapped;
  struct stat named;
  return fstat(fd_.get(), &mapped) == 0 && lstat(path.c_str(), &named) == 0 &&
         mapped.st_dev == named.st_dev && mapped.st_ino == named.st_ino;
}

}  // namespace evermap
