#include "daemon/host/cores.h"

#include <sched.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "registry/base/file_text.h"

namespace evermap {
namespace {

uint32_t CoresOfAffinity() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  // The call fails on hosts with more cores than a cpu_set_t has bits.
  const int count = sched_getaffinity(0, sizeof(cores), &cores) == 0
                        ? CPU_COUNT(&cores)
                        : static_cast<int>(std::thread::hardware_concurrency());
  return std::max(static_cast<uint32_t>(count), 1u);
}

// The quota that a cgroup has as a directory of version 2.
uint32_t QuotaOfVersion2(const std::string& directory) {
  return CoresOfQuota(FirstLineOf(directory + "/cpu.max"));
}

// The same of version 1, which says -1 where there is none.
uint32_t QuotaOfVersion1(const std::string& directory) {
  return CoresOfQuota(FirstLineOf(directory + "/cpu.cfs_quota_us") + " " +
                      FirstLineOf(directory + "/cpu.cfs_period_us"));
}

// The least quota of the directory `root`/`cgroup` and those above it, down to `root`; `most` where
// none is less. In a container the topmost that is seen is its own.
uint32_t LeastQuota(const std::string& root, std::string cgroup,
                    uint32_t (&quota)(const std::string& directory), uint32_t most) {
  while (true) {
    const uint32_t cores = quota(root + cgroup);
    if (cores != 0) most = std::min(most, cores);
    if (cgroup.empty()) return most;
    cgroup.resize(std::min(cgroup.rfind('/'), cgroup.size() - 1));
  }
}

}  // namespace

uint32_t CoresOfQuota(std::string_view text) {
  const std::vector<std::string> words = absl::StrSplit(std::string(text), absl::ByAnyChar(" \n"));
  uint64_t quota = 0;
  uint64_t period = 0;
  if (words.size() < 2 || !absl::SimpleAtoi(words[0], &quota) ||
      !absl::SimpleAtoi(words[1], &period) || quota == 0 || period == 0) {
    return 0;
  }
  const uint64_t cores = quota / period + (quota % period == 0 ? 0 : 1);
  return static_cast<uint32_t>(std::min<uint64_t>(cores, ~uint32_t{0}));
}

uint32_t UsableCores(const std::string& cgroup_root, const std::string& own_cgroup_file) {
  uint32_t cores = CoresOfAffinity();
  const std::string lines = FileText(own_cgroup_file);
  // A line is NUMBER:CONTROLLERS:PATH. Version 2 has number 0 and names no controllers.
  for (const absl::string_view line : absl::StrSplit(lines, '\n')) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() < 3) continue;
    if (fields[0] == "0") {
      cores = LeastQuota(cgroup_root, fields[2], QuotaOfVersion2, cores);
    } else if (("," + fields[1] + ",").find(",cpu,") != std::string::npos) {
      cores = LeastQuota(cgroup_root + "/cpu", fields[2], QuotaOfVersion1, cores);
    }
  }
  return cores;
}

}  // namespace evermap
