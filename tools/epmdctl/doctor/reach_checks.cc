#include "tools/epmdctl/doctor/reach_checks.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "registry/base/text.h"
#include "tools/epmdctl/doctor/host_checks.h"
#include "tools/epmdctl/doctor/mapper_checks.h"
#include "tools/epmdctl/doctor/namespace_checks.h"
#include "tools/epmdctl/doctor/node_checks.h"
#include "tools/epmdctl/host/node_commands.h"

namespace evermap {
namespace {

std::string Full(const NodeAddress& node) {
  return Printable(node.host.empty() ? node.name : node.name + "@" + node.host);
}

// The process of a node of this host, by its command line.
std::optional<NodeCommand> CommandOf(const NodeAddress& node) {
  std::vector<NodeCommand> all = NodeCommands();
  const auto found = std::find_if(all.begin(), all.end(), [&node](const NodeCommand& one) {
    return one.name == node.name &&
           (node.host.empty() || one.host.empty() || one.host == node.host);
  });
  if (found == all.end()) return std::nullopt;
  return *found;
}

// Nodes with short names and nodes with long names do not connect to each other.
void CompareKinds(const NodeCommand& from, const NodeAddress& to, Report& report) {
  if (to.host.empty()) return;
  const bool is_to_long = to.host.find('.') != std::string::npos;
  if (from.has_long_name == is_to_long) {
    report.Say("kinds of names", Verdict::kOk, "both have the same kind of name");
    return;
  }
  report.Say(
      "kinds of names", Verdict::kFailed,
      absl::StrFormat("%s has a %s name (%s), and %s is a %s one", Printable(from.name),
                      from.has_long_name ? "long" : "short",
                      from.has_long_name ? "-name" : "-sname", Full(to),
                      is_to_long ? "long" : "short"),
      "nodes with long and with short names do not connect: start both with -name or both with "
      "-sname, or give the host part as the other node has it");
}

// Nodes that speak TLS and nodes that do not do not understand each other.
void CompareDistribution(const NodeCommand& from, const NodeAnswer& answer, Report& report) {
  if (from.is_tls() == answer.is_tls) {
    report.Say("TLS", Verdict::kOk, from.is_tls() ? "both speak TLS" : "neither speaks TLS");
    return;
  }
  report.Say("TLS", Verdict::kFailed,
             from.is_tls() ? "the first node speaks TLS (-proto_dist inet_tls), the second does not"
                           : "the second node speaks TLS, the first does not",
             "start both with the same -proto_dist");
}

}  // namespace

void ExamineReach(const NodeAddress& from, const NodeAddress& to, uint16_t port, Report& report) {
  const std::optional<NodeCommand> command = CommandOf(from);
  if (!command.has_value()) {
    report.Say(
        "first node", Verdict::kWarning,
        absl::StrFormat("%s does not run on this host, or this user may not see it", Full(from)),
        "what follows is seen from this host; run the doctor where the node runs");
  } else {
    report.Say(
        "first node", Verdict::kOk,
        absl::StrFormat("%s runs as process %d%s", Full(from), command->pid,
                        command->is_in_other_network
                            ? ", in another network namespace: what follows is seen from there"
                            : ""));
    CompareKinds(*command, to, report);
  }
  const auto look = [&] {
    if (!to.host.empty() && ExamineHost(to.host, port, report) == HostKind::kUnknown) return;
    const std::string host = to.host.empty() ? "127.0.0.1" : to.host;
    if (!ExamineAnswer("mapper there", host, port, report)) return;
    const std::optional<FoundNode> found = FindOverTcp(port, to, report);
    if (!found.has_value()) return;
    const std::optional<NodeAnswer> answer =
        ExamineNode(to, *found, /*is_this_host=*/false, report);
    if (command.has_value() && answer.has_value()) CompareDistribution(*command, *answer, report);
  };
  if (!command.has_value() || !command->is_in_other_network) {
    look();
  } else if (!RunInNetworkOf(command->pid, look)) {
    report.Say("network", Verdict::kFailed,
               absl::StrFormat("the network namespace of %s may not be entered", Full(from)),
               "run the doctor as root");
  }
}

}  // namespace evermap
