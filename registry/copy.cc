#include "registry/copy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "registry/layout_words.h"
#include "registry/segment_file.h"

namespace evermap {
namespace {

constexpr mode_t kFileMode = 0644;
constexpr uint64_t kIsSuperseded = 1;

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

// Gives the copy memory, and the first page. Sets the size of all. An errno, or 0.
int CopyBeginning(const Segment& from, int copy, uint64_t& size) {
  struct stat file;
  if (fstat(from.fd(), &file) != 0) return errno;
  size = static_cast<uint64_t>(file.st_size);
  // Who maps the file counts on memory for all that is inside it (extents.h).
  if (!ExtendFile(copy, 0, size)) return errno;
  std::array<char, layout::kPageSize> page;
  // By the kernel: workers count in it meanwhile.
  const ssize_t got = pread(from.fd(), page.data(), page.size(), 0);
  if (got < 0) return errno;
  if (static_cast<size_t>(got) != page.size()) return EIO;
  std::memcpy(page.data() + layout::kSupersededAt, &kIsSuperseded, sizeof(kIsSuperseded));
  return WriteAll(copy, page.data(), page.size(), 0);
}

}  // namespace

OwnedFd BeginCopy(const std::string& path, const Segment& from) {
  OwnedFd copy(open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, kFileMode));
  // The umask must not decide which users can read the registry.
  if (!copy.valid() || fchmod(copy.get(), kFileMode) != 0) return {};
  uint64_t size = 0;
  if (const int error = CopyBeginning(from, copy.get(), size); error != 0) {
    copy = OwnedFd();
    errno = error;
  }
  return copy;
}

int FinishCopy(const Segment& from, int copy) {
  uint64_t size = 0;
  int error = CopyBeginning(from, copy, size);
  if (error == 0) {
    error = WriteAll(copy, from.at<char>(layout::kPageSize), size - layout::kPageSize,
                     layout::kPageSize);
  }
  if (error == 0 && fsync(copy) != 0) error = errno;
  return error;
}

void WriteSupersededMark(int fd) {
  WriteAll(fd, reinterpret_cast<const char*>(&kIsSuperseded), sizeof(kIsSuperseded),
           layout::kSupersededAt);
}

}  // namespace evermap
