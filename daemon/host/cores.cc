#include "daemon/host/cores.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

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

// The path of the process's cgroup below the root of the hierarchy, such as "/system.slice/x"; empty
// when there is none.
std::string OwnCgroup(const std::string& own_cgroup_file) {
  constexpr std::string_view kVersion2 = "0::";
  std::ifstream file(own_cgroup_file);
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(kVersion2)) return line.substr(kVersion2.size());
  }
  return {};
}

}  // namespace

uint32_t CoresOfQuota(std::string_view text) {
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(text.data(), text.size()), absl::ByAnyChar(" \n"));
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
  // Whichever of the cgroups on the way up has the least counts. In a container the topmost that is
  // seen is its own.
  std::string cgroup = OwnCgroup(own_cgroup_file);
  while (true) {
    std::ifstream file(cgroup_root + cgroup + "/cpu.max");
    std::string text;
    const uint32_t of_quota = std::getline(file, text) ? CoresOfQuota(text) : 0;
    if (of_quota != 0) cores = std::min(cores, of_quota);
    if (cgroup.empty()) return cores;
    cgroup.resize(std::min(cgroup.rfind('/'), cgroup.size() - 1));
  }
}

}  // namespace evermap
