#include "daemon/host/socket_owner.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <ctime>
#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

// Whether a descriptor of the process leads to `link`, as readlink(2) tells it.
bool HasDescriptor(const char* pid, std::string_view link) {
  const Directory descriptors(opendir(absl::StrCat("/proc/", pid, "/fd").c_str()), closedir);
  if (descriptors == nullptr) return false;
  std::array<char, 64> target;
  while (const dirent* const entry = readdir(descriptors.get())) {
    const ssize_t size =
        readlinkat(dirfd(descriptors.get()), entry->d_name, target.data(), target.size());
    if (size > 0 && std::string_view(target.data(), static_cast<size_t>(size)) == link) return true;
  }
  return false;
}

// CPU time of the calling thread.
int64_t ThreadCpuNs() {
  timespec used;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return used.tv_sec * kNsPerSecond + used.tv_nsec;
}

}  // namespace

std::optional<pid_t> ProcessOfSocket(uint32_t inode, absl::Duration budget) {
  if (inode == 0) return std::nullopt;
  const std::string link = absl::StrCat("socket:[", inode, "]");
  const int64_t end_ns = ThreadCpuNs() + absl::ToInt64Nanoseconds(budget);
  const Directory processes(opendir("/proc"), closedir);
  while (processes != nullptr && ThreadCpuNs() < end_ns) {
    const dirent* const entry = readdir(processes.get());
    if (entry == nullptr) return std::nullopt;
    const std::string_view name = entry->d_name;
    pid_t pid = 0;
    const auto number = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (number.ec != std::errc() || number.ptr != name.data() + name.size()) continue;
    if (HasDescriptor(entry->d_name, link)) return pid;
  }
  return std::nullopt;
}

}  // namespace evermap
