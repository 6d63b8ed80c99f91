// What a server uses of the machine: the process given and all that descend from it, since a mapper
// may be several.
#ifndef EVERMAP_BENCH_MEASURE_PROCESS_USAGE_H_
#define EVERMAP_BENCH_MEASURE_PROCESS_USAGE_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace evermap::bench {

// Sums over the processes of a tree that live now. What an ended process used is not in the sum, so
// a difference means something only between two moments with the same processes.
struct ProcessUsage {
  uint32_t processes = 0;
  uint32_t threads = 0;
  uint64_t cpu_ns = 0;  // in user space and in the kernel
  uint64_t voluntary_switches = 0;
  uint64_t involuntary_switches = 0;
  // Proportional set size: a page shared by n processes counts as a n-th in each, and so once in
  // all. Resident set size where that may not be read.
  uint64_t memory_bytes = 0;
  uint64_t descriptors = 0;
};

// Looks through all of /proc, which costs about a millisecond. kNotFound when there is no such
// process, kPermissionDenied when it is another user's.
absl::StatusOr<ProcessUsage> ReadProcessTree(pid_t root);

// `root` and its descendants, parents before children.
std::vector<pid_t> ProcessTree(pid_t root);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_PROCESS_USAGE_H_
