// How many cores this process has the use of.
//
// Thread safety: pure, but for what it reads.
#ifndef EVERMAP_DAEMON_HOST_CORES_H_
#define EVERMAP_DAEMON_HOST_CORES_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace evermap {

// Where the hierarchy of cgroups is mounted (cgroups(7)).
inline constexpr char kCgroupRoot[] = "/sys/fs/cgroup";

// The cores that the process may run on (sched_setaffinity(2)), or fewer where its cgroup, or one
// above that, has a quota of less CPU time: as many as use it up, rounded up. At least 1.
// `cgroup_root`: as kCgroupRoot. `own_cgroup_file`: as /proc/self/cgroup. A quota that cannot be
// read is none.
uint32_t UsableCores(const std::string& cgroup_root, const std::string& own_cgroup_file);

// The cores that a quota lets a cgroup use up, rounded up; 0: any number. `text`: "QUOTA PERIOD" in
// microseconds, as the file cpu.max says; any other word than a number above 0 is no quota.
uint32_t CoresOfQuota(std::string_view text);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_CORES_H_
