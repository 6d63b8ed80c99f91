#include "bench/measure/process_usage.h"

#include <dirent.h>
#include <sys/types.h>

#include <cerrno>
#include <ctime>
#include <map>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "registry/base/file_text.h"

namespace evermap::bench {
namespace {

// The entries of a directory of /proc that are numbers.
absl::StatusOr<std::vector<pid_t>> NumbersIn(const std::string& path) {
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
  const absl::Cleanup close_directory = [directory] { closedir(directory); };
  std::vector<pid_t> numbers;
  while (const dirent* entry = readdir(directory)) {
    pid_t number = 0;
    if (absl::SimpleAtoi(entry->d_name, &number)) numbers.push_back(number);
  }
  return numbers;
}

// Indices of fields of /proc/PID/stat, counted from the field after the command name, since that
// name may itself contain spaces and brackets.
constexpr size_t kParentField = 1;

// 0 when it cannot be read.
uint64_t StatField(pid_t pid, size_t field) {
  const std::string stat = FileText(absl::StrCat("/proc/", pid, "/stat"));
  const size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) return 0;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(name_end + 2), ' ');
  uint64_t value = 0;
  return fields.size() > field && absl::SimpleAtoi(fields[field], &value) ? value : 0;
}

// The number in a line "KEY:  VALUE ..." of a file of /proc; 0 when there is no such line.
uint64_t ValueOf(absl::string_view text, absl::string_view key) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.size() <= key.size() || line.substr(0, key.size()) != key || line[key.size()] != ':') {
      continue;
    }
    const std::vector<absl::string_view> words =
        absl::StrSplit(line.substr(key.size() + 1), absl::ByAnyChar(" \t"), absl::SkipEmpty());
    uint64_t value = 0;
    return !words.empty() && absl::SimpleAtoi(words[0], &value) ? value : 0;
  }
  return 0;
}

// CPU time of all threads of a process so far, including those that have ended; 0 when there is no
// such process.
uint64_t CpuNsOf(pid_t pid) {
  clockid_t clock{};
  timespec used{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) return 0;
  return static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
}

uint64_t MemoryBytesOf(pid_t pid) {
  const uint64_t pss_kib = ValueOf(FileText(absl::StrCat("/proc/", pid, "/smaps_rollup")), "Pss");
  if (pss_kib > 0) return pss_kib * 1024;
  return ValueOf(FileText(absl::StrCat("/proc/", pid, "/status")), "VmRSS") * 1024;
}

void AddTo(ProcessUsage& usage, pid_t pid) {
  const auto threads = NumbersIn(absl::StrCat("/proc/", pid, "/task"));
  if (!threads.ok()) return;
  ++usage.processes;
  for (const pid_t thread : *threads) {
    const std::string status = FileText(absl::StrCat("/proc/", pid, "/task/", thread, "/status"));
    ++usage.threads;
    usage.voluntary_switches += ValueOf(status, "voluntary_ctxt_switches");
    usage.involuntary_switches += ValueOf(status, "nonvoluntary_ctxt_switches");
  }
  usage.cpu_ns += CpuNsOf(pid);
  usage.memory_bytes += MemoryBytesOf(pid);
  const auto descriptors = NumbersIn(absl::StrCat("/proc/", pid, "/fd"));
  if (descriptors.ok()) usage.descriptors += descriptors->size();
}

}  // namespace

std::vector<pid_t> ProcessTree(pid_t root) {
  const auto all = NumbersIn("/proc");
  if (!all.ok()) return {root};
  std::multimap<pid_t, pid_t> children;
  for (const pid_t pid : *all) {
    children.emplace(static_cast<pid_t>(StatField(pid, kParentField)), pid);
  }
  std::vector<pid_t> tree = {root};
  for (size_t i = 0; i < tree.size(); ++i) {
    const auto [begin, end] = children.equal_range(tree[i]);
    for (auto child = begin; child != end; ++child) tree.push_back(child->second);
  }
  return tree;
}

absl::StatusOr<uint64_t> ProcessCpuNs(const std::vector<pid_t>& tree) {
  uint64_t sum_ns = 0;
  for (const pid_t pid : tree) sum_ns += CpuNsOf(pid);
  if (sum_ns == 0) return absl::NotFoundError(absl::StrCat("there is no process ", tree.front()));
  return sum_ns;
}

absl::StatusOr<ProcessUsage> ReadProcessTree(pid_t root) {
  ProcessUsage usage;
  for (const pid_t pid : ProcessTree(root)) AddTo(usage, pid);
  if (usage.processes == 0) {
    return absl::NotFoundError(absl::StrCat("there is no process ", root));
  }
  if (usage.descriptors == 0) {
    return absl::PermissionDeniedError(absl::StrCat(
        "process ", root, " is another user's: run the bench as that user, or as root"));
  }
  return usage;
}

}  // namespace evermap::bench
