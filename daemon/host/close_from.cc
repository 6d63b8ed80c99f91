#include "daemon/host/close_from.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "daemon/host/descriptor_limit.h"

namespace evermap {
namespace {

// The number that `name` is; -1: none.
int ToNumber(const char* name) {
  int number = 0;
  for (; *name != '\0'; ++name) {
    if (*name < '0' || *name > '9') return -1;
    number = number * 10 + (*name - '0');
  }
  return number;
}

// readdir(3) allocates, which a child of a process with several threads must not. False when /proc
// cannot be read.
bool CloseListed(unsigned first) {
  const int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return false;
  alignas(dirent64) char entries[4096];
  ssize_t size;
  while ((size = syscall(SYS_getdents64, folder, entries, sizeof(entries))) > 0) {
    bool has_closed = false;
    for (ssize_t at = 0; at < size;) {
      unsigned short entry_size;
      std::memcpy(&entry_size, entries + at + offsetof(dirent64, d_reclen), sizeof(entry_size));
      const int fd = ToNumber(entries + at + offsetof(dirent64, d_name));
      if (fd >= 0 && fd != folder && static_cast<unsigned>(fd) >= first) {
        close(fd);
        has_closed = true;
      }
      at += entry_size;
    }
    // What is behind in the list may have moved.
    if (has_closed) lseek(folder, 0, SEEK_SET);
  }
  close(folder);
  return size == 0;
}

}  // namespace

void CloseFrom(unsigned first) {
  // Not glibc's close_range(): musl has none.
  if (syscall(SYS_close_range, first, ~0u, 0) == 0 || CloseListed(first)) return;
  rlimit limit = {};
  const bool is_known = getrlimit(RLIMIT_NOFILE, &limit) == 0;
  const rlim_t end = is_known ? std::min<rlim_t>(limit.rlim_max, kDescriptorsMax) : kDescriptorsMax;
  for (rlim_t fd = first; fd < end; ++fd) close(static_cast<int>(fd));
}

}  // namespace evermap
