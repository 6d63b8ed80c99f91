#include "tools/epmdctl/host/processes.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "registry/base/file_text.h"
#include "registry/base/path.h"

namespace evermap {
namespace {

namespace fs = std::filesystem;

// Longest chain of parents that is followed. A longer one has been read while processes came and
// went, and could be a circle.
constexpr int kAncestorsMax = 64;
// TCP_LISTEN as the state in /proc/net/tcp.
constexpr std::string_view kListen = "0A";

// Parses an address of /proc/net/tcp: "0100007F" or 32 digits, in words of 32 bits in the byte
// order of the host, each in hexadecimal.
std::string AddressFrom(const std::string& digits) {
  std::array<uint32_t, 4> words = {};
  const size_t count = digits.size() / 8;
  if (digits.size() % 8 != 0 || (count != 1 && count != words.size())) return "";
  for (size_t i = 0; i < count; ++i) {
    words[i] = static_cast<uint32_t>(std::strtoul(digits.substr(8 * i, 8).c_str(), nullptr, 16));
  }
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(count == 1 ? AF_INET : AF_INET6, words.data(), text, sizeof(text));
  return text;
}

void AppendSockets(const char* table, std::vector<ListeningSocket>& sockets) {
  std::istringstream file(FileText(table));
  std::string line;
  std::getline(file, line);  // the head
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string skipped, local, state, inode;
    fields >> skipped >> local >> skipped >> state;
    for (int i = 0; i < 5; ++i) fields >> skipped;
    fields >> inode;
    const size_t colon = local.find(':');
    if (!fields || state != kListen || colon == std::string::npos) continue;
    sockets.push_back({AddressFrom(local.substr(0, colon)),
                       static_cast<uint16_t>(std::strtoul(local.c_str() + colon + 1, nullptr, 16)),
                       std::strtoull(inode.c_str(), nullptr, 10)});
  }
}

// The target of a symbolic link; empty when it cannot be read.
std::string Link(const fs::path& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  return error ? "" : target.string();
}

// Calls `visit` with the pid of each process, until it returns false.
void ForEachProcess(absl::FunctionRef<bool(pid_t pid)> visit) {
  std::error_code error;
  fs::directory_iterator entries("/proc", error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const pid_t pid = static_cast<pid_t>(std::atoi(entries->path().filename().c_str()));
    if (pid > 0 && !visit(pid)) return;
  }
}

fs::path DirectoryOf(pid_t pid) { return fs::path("/proc") / std::to_string(pid); }

pid_t ParentOf(pid_t pid) {
  const std::string stat = FileText(DirectoryOf(pid) / "stat");
  // State and parent come after the name of the program, which may itself contain parentheses.
  const size_t end = stat.rfind(')');
  if (end == std::string::npos || end + 4 > stat.size()) return 0;
  return static_cast<pid_t>(std::atoi(stat.c_str() + end + 4));
}

}  // namespace

bool ListeningSocket::IsLoopback() const {
  return address.starts_with("127.") || address == "::1" || address.starts_with("::ffff:127.");
}

bool ListeningSocket::IsAny() const { return address == "0.0.0.0" || address == "::"; }

std::vector<ListeningSocket> ListeningSockets() {
  std::vector<ListeningSocket> sockets;
  AppendSockets("/proc/net/tcp", sockets);
  AppendSockets("/proc/net/tcp6", sockets);
  return sockets;
}

std::vector<ListeningSocket> SocketsOn(const std::vector<ListeningSocket>& sockets, uint16_t port) {
  std::vector<ListeningSocket> there;
  std::copy_if(sockets.begin(), sockets.end(), std::back_inserter(there),
               [port](const ListeningSocket& socket) { return socket.port == port; });
  return there;
}

void ForEachSocket(absl::FunctionRef<bool(pid_t pid, uint64_t inode)> visit) {
  constexpr std::string_view kSocket = "socket:[";
  bool goes_on = true;
  ForEachProcess([&](pid_t pid) {
    std::error_code error;
    fs::directory_iterator fds(DirectoryOf(pid) / "fd", error);
    for (; goes_on && !error && fds != fs::directory_iterator(); fds.increment(error)) {
      const std::string target = Link(fds->path());
      if (!target.starts_with(kSocket)) continue;
      goes_on = visit(pid, std::strtoull(target.c_str() + kSocket.size(), nullptr, 10));
    }
    return goes_on;
  });
}

std::vector<Process> ProcessesAt(const std::vector<ListeningSocket>& sockets,
                                 const std::string& name) {
  std::map<pid_t, std::vector<ListeningSocket>> held;
  ForEachSocket([&](pid_t pid, uint64_t inode) {
    for (const ListeningSocket& socket : sockets) {
      if (socket.inode == inode) held[pid].push_back(socket);
    }
    return true;
  });
  std::vector<Process> processes;
  const std::string own_network = Link("/proc/self/ns/net");
  ForEachProcess([&](pid_t pid) {
    Process process{pid, FirstLineOf(DirectoryOf(pid) / "comm"), std::move(held[pid])};
    const std::string network = Link(DirectoryOf(pid) / "ns" / "net");
    if ((!process.listening.empty() || process.name == name) &&
        (network.empty() || network == own_network)) {
      processes.push_back(std::move(process));
    }
    return true;
  });
  std::sort(processes.begin(), processes.end(),
            [](const Process& a, const Process& b) { return a.pid < b.pid; });
  return processes;
}

std::vector<pid_t> ProcessesCalled(const std::string& name) {
  std::vector<pid_t> pids;
  ForEachProcess([&](pid_t pid) {
    if (FirstLineOf(DirectoryOf(pid) / "comm") == name) pids.push_back(pid);
    return true;
  });
  std::sort(pids.begin(), pids.end());
  return pids;
}

std::vector<pid_t> WithAncestors(pid_t pid) {
  std::vector<pid_t> pids;
  for (int i = 0; i < kAncestorsMax && pid > 0; ++i, pid = ParentOf(pid)) pids.push_back(pid);
  return pids;
}

}  // namespace evermap
