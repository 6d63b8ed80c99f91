#include "tools/epmdctl/host/node_processes.h"

#include "daemon/host/sock_diag.h"
#include "tools/epmdctl/host/processes.h"

namespace evermap {
std::map<uint64_t, int> FindProcesses(const std::vector<Registration>& nodes) {
  std::map<uint64_t, int> processes;
  const absl::StatusOr<Listeners> listeners = ReadListeners();
  if (!listeners.ok()) return processes;
  std::multimap<uint64_t, uint64_t> wanted;  // ids by inode
  for (const Registration& node : nodes) {
    const uint32_t inode = node.listener_cookie == 0 || node.state == RegistrationState::kRemembered
                               ? 0
                               : listeners->InodeOf(node.listener_cookie);
    if (inode != 0) wanted.emplace(inode, node.id);
  }
  if (wanted.empty()) return processes;
  ForEachSocket([&](pid_t pid, uint64_t inode) {
    const auto found = wanted.equal_range(inode);
    for (auto id = found.first; id != found.second; ++id) processes.emplace(id->second, pid);
    wanted.erase(found.first, found.second);
    return !wanted.empty();
  });
  return processes;
}

}  // namespace evermap
