#include "tools/epmdctl/doctor/mapper_checks.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "daemon/host/steady_time.h"
#include "daemon/wire/client.h"
#include "registry/base/text.h"
#include "tools/epmdctl/doctor/host_checks.h"

namespace evermap {
namespace {

constexpr char kMapperProgram[] = "epmd";

std::string ProcessText(const Process& process) {
  return absl::StrFormat("%d (%s)", process.pid, Printable(process.name));
}

}  // namespace

bool ExamineAnswer(const char* check, const std::string& host, uint16_t port, Report& report) {
  const Client client(host, port, {.timeout = kProbeTimeout});
  const absl::Time begin = SteadyNow();
  const absl::StatusOr<std::vector<Client::NamedPort>> names = client.Names();
  const std::string where = absl::StrFormat("%s port %d", Printable(host), port);
  if (names.ok()) {
    report.Say(
        check, Verdict::kOk,
        absl::StrFormat("%s answers, in %.1f ms, and lists %s", where,
                        absl::ToDoubleMilliseconds(SteadyNow() - begin), NodesText(names->size())));
    return true;
  }
  if (absl::IsDataLoss(names.status()) && client.Answers().ok()) {
    report.Say(
        check, Verdict::kOk,
        absl::StrCat(where, " answers lookups, and does not list its nodes to who asks from here"),
        "-access on that host says who may list them");
    return true;
  }
  const bool is_stranger = absl::IsDataLoss(names.status()) ||
                           absl::IsInvalidArgument(names.status()) ||
                           ErrnoOf(names.status()) == ECONNRESET;
  if (is_stranger) {
    report.Say(check, Verdict::kFailed,
               absl::StrCat(where, " is held by something that is no mapper"),
               "end that program, or give the mapper another port (ERL_EPMD_PORT)");
  } else {
    report.Say(check, Verdict::kFailed, absl::StrCat(where, " ", ConnectProblem(names.status())),
               ConnectAdvice(names.status(),
                             "start the mapper there, with this port and an -address that includes "
                             "this one"));
  }
  return false;
}

MapperProcesses::MapperProcesses(uint16_t port, const RegistryFindings& registry)
    : port_(port),
      mapper_runs_(registry.mapper_runs),
      mapper_pid_(static_cast<pid_t>(registry.mapper.pid)),
      sockets_(ListeningSockets()),
      processes_(ProcessesAt(sockets_, kMapperProgram)) {}

bool MapperProcesses::IsOfMapper(const Process& process) const {
  if (!mapper_runs_) return false;
  const std::vector<pid_t> family = WithAncestors(mapper_pid_);
  if (std::find(family.begin(), family.end(), process.pid) != family.end()) return true;
  const auto mapper = std::find_if(processes_.begin(), processes_.end(),
                                   [&](const Process& p) { return p.pid == mapper_pid_; });
  if (mapper == processes_.end()) return false;
  return std::any_of(
      process.listening.begin(), process.listening.end(), [&](const ListeningSocket& held) {
        return std::any_of(mapper->listening.begin(), mapper->listening.end(),
                           [&](const ListeningSocket& own) { return own.inode == held.inode; });
      });
}

void MapperProcesses::ExamineHolders(Report& report) const {
  // Other network namespaces have tables of their own: a holder there is not seen, and does not
  // matter here.
  if (SocketsOn(sockets_, port_).empty()) return;
  std::vector<std::string> ours;
  std::vector<std::string> others;
  for (const Process& process : processes_) {
    if (SocketsOn(process.listening, port_).empty()) continue;
    const bool is_ours = mapper_runs_ ? IsOfMapper(process) : process.name == kMapperProgram;
    (is_ours ? ours : others).push_back(ProcessText(process));
  }
  if (!others.empty()) {
    report.Say("holder of the port", Verdict::kFailed,
               absl::StrFormat("port %d is also held by %s", port_, Listed(others)),
               "end it, or let one of the two use another port; requests go to either");
  } else if (ours.empty()) {
    report.Say("holder of the port", Verdict::kOk,
               "is not visible to this user; run as root to see whether it is one process");
  } else {
    report.Say("holder of the port", Verdict::kOk,
               absl::StrFormat("port %d is held by %s and nobody else", port_, Listed(ours)));
  }
}

void MapperProcesses::ExamineAddress(Report& report) const {
  ExamineAddresses("mapper's address", SocketsOn(sockets_, port_), "the mapper",
                   "only nodes of this host find others; if that is not wanted, start it without "
                   "-address and ERL_EPMD_ADDRESS",
                   report);
}

void MapperProcesses::ExamineOtherMappers(Report& report) const {
  std::map<uint16_t, std::vector<std::string>> pids_by_port;
  for (const Process& process : processes_) {
    if (process.name != kMapperProgram || IsOfMapper(process)) continue;
    std::set<uint16_t> ports;
    for (const ListeningSocket& socket : process.listening) ports.insert(socket.port);
    ports.erase(port_);
    for (const uint16_t port : ports) pids_by_port[port].push_back(std::to_string(process.pid));
  }
  std::vector<std::string> others;
  for (const auto& [port, pids] : pids_by_port) {
    others.push_back(absl::StrFormat("port %d (pid %s)", port, absl::StrJoin(pids, ", ")));
  }
  if (others.empty()) {
    report.Say("other mappers", Verdict::kOk, "none is seen on another port");
  } else {
    report.Say("other mappers", Verdict::kWarning, "there are others, on " + Listed(others),
               "a node registers with the one on its ERL_EPMD_PORT, and is found only there");
  }
}

}  // namespace evermap
