#include "tools/epmdctl/doctor/doctor_command.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "tools/epmdctl/doctor/host_checks.h"
#include "tools/epmdctl/doctor/mapper_checks.h"
#include "tools/epmdctl/doctor/namespace_checks.h"
#include "tools/epmdctl/doctor/node_checks.h"
#include "tools/epmdctl/doctor/reach_checks.h"
#include "tools/epmdctl/doctor/registry_checks.h"
#include "tools/epmdctl/doctor/report.h"
#include "tools/epmdctl/doctor/settings_checks.h"
#include "tools/epmdctl/lookup_command.h"
#include "tools/epmdctl/remote.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// What can be asked for a name.
struct Sources {
  bool registry = false;
  bool mapper = false;
};

Sources ExamineThisHost(CurrentRegistry& registry, uint16_t port, Report& report) {
  const RegistryFindings findings = ExamineRegistry(registry, report);
  if (findings.mapper_runs) ExamineSettings(registry.path(), report);
  const bool answers = ExamineAnswer("mapper over TCP", kThisHost, port, report);
  const MapperProcesses processes(port, findings);
  processes.ExamineHolders(report);
  if (answers) {
    processes.ExamineAddress(report);
    if (findings.can_be_read) CompareAnswers(registry, port, report);
  }
  ExamineProgram(port, report);
  processes.ExamineOtherMappers(report);
  return {findings.can_be_read, answers};
}

Report Examine(CurrentRegistry& registry, uint16_t port, const NodeAddress& node) {
  Report report;
  const HostKind host = node.host.empty() ? HostKind::kThis : ExamineHost(node.host, port, report);
  if (host == HostKind::kUnknown) return report;
  const bool is_this_host = host == HostKind::kThis;
  Sources sources;
  if (is_this_host) sources = ExamineThisHost(registry, port, report);
  if (!node.host.empty() && ExamineAnswer("mapper on the host", node.host, port, report)) {
    sources.mapper = true;
  }
  std::optional<FoundNode> found;
  if (!node.name.empty() && (sources.registry || sources.mapper)) {
    found =
        sources.registry ? FindInRegistry(registry, node, report) : FindOverTcp(port, node, report);
  }
  if (is_this_host) {
    ExamineUnregisteredNodes(port, node.name, found.has_value(), report);
    // A node that is found here is not missed.
    if (!found.has_value()) ExamineOtherNetworks(port, node.name, report);
  }
  if (found.has_value()) ExamineNode(node, *found, is_this_host, report);
  return report;
}

}  // namespace

int Diagnose(CurrentRegistry& registry, uint16_t port, const std::string& node,
             const std::string& peer, bool json) {
  Report report;
  if (peer.empty()) {
    report = Examine(registry, port, ParseNodeAddress(node));
  } else {
    ExamineReach(ParseNodeAddress(node), ParseNodeAddress(peer), port, report);
  }
  if (json) {
    PrintJson({{"node", node.empty() ? nlohmann::json() : nlohmann::json(node)},
               {"peer", peer.empty() ? nlohmann::json() : nlohmann::json(peer)},
               {"port", port},
               {"failed", report.has_failed()},
               {"checks", report.ToJson()}});
  } else {
    report.Print();
  }
  return report.has_failed() ? kExitFailed : 0;
}

}  // namespace evermap
