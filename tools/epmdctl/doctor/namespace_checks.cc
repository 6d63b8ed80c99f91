#include "tools/epmdctl/doctor/namespace_checks.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/host/thread.h"
#include "daemon/wire/client.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "tools/epmdctl/doctor/host_checks.h"
#include "tools/epmdctl/host/epmd_program.h"
#include "tools/epmdctl/host/node_commands.h"
#include "tools/epmdctl/host/processes.h"
#include "tools/epmdctl/remote.h"

namespace evermap {
namespace {

// Names of this host's nodes that are told one by one.
constexpr size_t kNodesToldMax = 10;

// Of each other network namespace in which an epmd runs, one such process.
std::vector<pid_t> EpmdsOfOtherNetworks() {
  std::map<ino_t, pid_t> by_network;
  for (const pid_t pid : ProcessesCalled("epmd")) {
    struct stat network;
    if (stat(absl::StrCat("/proc/", pid, "/ns/net").c_str(), &network) != 0) continue;
    if (!IsInThisNetwork(pid)) by_network.emplace(network.st_ino, pid);
  }
  std::vector<pid_t> pids;
  for (const auto& [network, pid] : by_network) pids.push_back(pid);
  return pids;
}

void TellProgram(const std::string& who, const EpmdProgram& program, Report& report) {
  if (program.is_evermap) {
    std::string text = absl::StrFormat("%s is Evermap, %s", who, Printable(program.path));
    if (!program.registry.empty()) {
      absl::StrAppend(&text, ", with the registry ", Printable(program.registry));
    }
    report.Say("which epmd", Verdict::kOk, std::move(text));
    return;
  }
  std::string text = absl::StrFormat(
      "%s is the epmd of Erlang/OTP%s, %s: it forgets all nodes when it ends", who,
      program.erts_version.empty() ? "" : absl::StrCat(" (erts ", program.erts_version, ")"),
      Printable(program.path));
  std::string advice =
      "whichever starts first has the port: end it when no node is registered (epmd -kill), and "
      "start "
      "Evermap; for a release with its own erts see use-evermap(8)";
  if (HasCve202642792(program.erts_version).value_or(false)) {
    text +=
        "; whoever can connect can end it (CVE-2026-42792), unless the distribution has mended it";
  }
  report.Say("which epmd", Verdict::kWarning, std::move(text), std::move(advice));
}

}  // namespace

bool RunInNetworkOf(pid_t pid, absl::FunctionRef<void()> work) {
  const OwnedFd network(open(absl::StrCat("/proc/", pid, "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
  if (!network.valid()) return false;
  bool has_entered = false;
  // The namespace is that of a thread.
  absl::StatusOr<Thread> thread = Thread::Start("epmdctl-visit", [&] {
    has_entered = setns(network.get(), CLONE_NEWNET) == 0;
    if (has_entered) work();
  });
  if (!thread.ok()) return false;
  thread->Join();
  return has_entered;
}

void ExamineProgram(uint16_t port, Report& report) {
  const std::vector<ListeningSocket> sockets = SocketsOn(ListeningSockets(), port);
  std::set<std::string> told;
  for (const Process& process : ProcessesAt(sockets, "epmd")) {
    // systemd and a keeper hold the port, too; the keeper is the same program as its mapper.
    if (SocketsOn(process.listening, port).empty() || process.name != "epmd") continue;
    const std::optional<EpmdProgram> program = ProgramOf(process.pid);
    if (!program.has_value() || !told.insert(program->path).second) continue;
    TellProgram(absl::StrFormat("process %d", process.pid), *program, report);
  }
}

void ExamineOtherNetworks(uint16_t port, const std::string& name, Report& report) {
  for (const pid_t pid : EpmdsOfOtherNetworks()) {
    std::optional<absl::StatusOr<Client::Node>> node;
    std::optional<absl::StatusOr<std::vector<Client::NamedPort>>> names;
    const bool has_entered = RunInNetworkOf(pid, [&] {
      const Client client(std::string(kThisHost), port, {.timeout = kProbeTimeout});
      names.emplace(client.Names());
      if (!name.empty()) node.emplace(client.Lookup(name));
    });
    const std::string who = absl::StrFormat(
        "an epmd runs in another network namespace (process %d), as in a container", pid);
    const std::string there =
        absl::StrFormat("nsenter -t %d -n epmdctl --port %d doctor", pid, port);
    if (!has_entered || !names.has_value()) {
      report.Say("other networks", Verdict::kWarning, who,
                 "run as root to see whether it is missed here, or look there: " + there);
    } else if (!names->ok()) {
      report.Say("other networks", Verdict::kOk, absl::StrFormat("%s; not on port %d", who, port));
    } else if (node.has_value() && node->ok()) {
      report.Say(
          "other networks", Verdict::kWarning,
          absl::StrFormat("%s, and has a node %s at port %d", who, Printable(name), (*node)->port),
          "a node is found only by those that ask the mapper of its own network: " + there);
    } else {
      report.Say(
          "other networks", Verdict::kOk,
          absl::StrFormat("%s, on the same port, with %s", who, NodesText((*names)->size())));
    }
  }
}

void ExamineUnregisteredNodes(uint16_t port, const std::string& name, bool is_found,
                              Report& report) {
  size_t told = 0;
  for (const NodeCommand& node : NodeCommands()) {
    if (!name.empty() && (node.name != name || is_found)) continue;
    const std::optional<Absence> why = WhyNotRegistered(node, port);
    if (!why.has_value() || told++ >= kNodesToldMax) continue;
    const std::string who = node.is_dynamic ? absl::StrFormat("a node runs as process %d", node.pid)
                                            : absl::StrFormat("node %s runs as process %d",
                                                              Printable(node.name), node.pid);
    report.Say("nodes elsewhere", name.empty() ? Verdict::kOk : Verdict::kWarning,
               absl::StrCat(who, ": ", why->text), why->advice);
  }
}

}  // namespace evermap
