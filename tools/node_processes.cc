#include "tools/node_processes.h"

#include <charconv>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "daemon/sock_diag.h"

namespace evermap {
namespace {

// What follows `prefix` in `text` as a number; 0 when that is not what it is.
template <typename Number>
Number NumberAfter(std::string_view prefix, std::string_view text) {
  Number number = 0;
  if (text.substr(0, prefix.size()) != prefix) return 0;
  std::from_chars(text.data() + prefix.size(), text.data() + text.size(), number);
  return number;
}

}  // namespace

std::map<uint64_t, int> FindProcesses(const std::vector<Registration>& nodes) {
  std::map<uint64_t, int> processes;
  const absl::StatusOr<Listeners> listeners = ReadListeners();
  if (!listeners.ok()) return processes;
  std::multimap<uint32_t, uint64_t> wanted;  // ids by inode
  for (const Registration& node : nodes) {
    const uint32_t inode = node.listener_cookie == 0 || node.state == RegistrationState::kRemembered
                               ? 0
                               : listeners->InodeOf(node.listener_cookie);
    if (inode != 0) wanted.emplace(inode, node.id);
  }
  // Processes come and go meanwhile, and those of others may not be looked at: what fails is
  // skipped.
  std::error_code error;
  for (std::filesystem::directory_iterator process("/proc", error), end;
       !error && process != end && !wanted.empty(); process.increment(error)) {
    const int pid = NumberAfter<int>("", process->path().filename().native());
    if (pid <= 0) continue;
    std::error_code skipped;
    for (std::filesystem::directory_iterator fd(process->path() / "fd", skipped);
         !skipped && fd != end; fd.increment(skipped)) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(fd->path(), gone).native();
      const auto found = wanted.equal_range(NumberAfter<uint32_t>("socket:[", target));
      for (auto id = found.first; id != found.second; ++id) processes.emplace(id->second, pid);
      wanted.erase(found.first, found.second);
    }
  }
  return processes;
}

}  // namespace evermap
