#include "daemon/host/descriptor_limit.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace evermap {
namespace {

// The limit that Linux gives to every process by default, for when it cannot be read.
constexpr uint32_t kDescriptorsUnknown = 1024;

}  // namespace

uint32_t RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kDescriptorsUnknown;
  const rlim_t wanted = std::min<rlim_t>(limit.rlim_max, kDescriptorsMax);
  if (limit.rlim_cur < wanted) {
    const rlim_t before = std::exchange(limit.rlim_cur, wanted);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  }
  return static_cast<uint32_t>(std::min<rlim_t>(limit.rlim_cur, kDescriptorsMax));
}

void MakeRoomForDescriptors() {
  const uint32_t size = std::min(RaiseDescriptorLimit(), kDescriptorRoom);
  const int last = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, static_cast<int>(size) - 1);
  if (last >= 0) close(last);
}

}  // namespace evermap
