#include "tools/epmdctl/doctor/node_checks.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/wire/client.h"
#include "daemon/wire/tcp.h"
#include "registry/base/text.h"
#include "registry/registration.h"
#include "tools/epmdctl/doctor/host_checks.h"
#include "tools/epmdctl/host/handshake.h"
#include "tools/epmdctl/host/processes.h"
#include "tools/epmdctl/remote.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// NAME@HOST as which the doctor greets a node. It is always the same, because a node remembers all
// names that it has met.
std::string OwnName() {
  std::array<char, 256> host = {};
  if (gethostname(host.data(), host.size() - 1) != 0) return "epmdctl_doctor@localhost";
  return absl::StrCat("epmdctl_doctor@", host.data());
}

std::string HostOf(const NodeAddress& node) {
  return node.host.empty() ? std::string(kThisHost) : node.host;
}

bool DifferOnlyInCase(std::string_view a, std::string_view b) {
  return a != b && absl::AsciiStrToLower(std::string(a)) == absl::AsciiStrToLower(std::string(b));
}

struct NamesFound {
  // Of several registrations under the name, the one that a lookup prefers.
  std::optional<Registration> registration;
  std::string similar;  // a registered name that differs in case only; empty: none
};

NamesFound FindNames(const RegistryView& view, const std::string& name) {
  NamesFound found;
  Registration node;
  for (uint32_t slot = 0; slot < view.slots_used(); ++slot) {
    if (!view.ReadSlot(slot, node)) continue;
    const bool is_registered = node.state != RegistrationState::kRemembered;
    if (node.name() == name) {
      if (!found.registration.has_value() || is_registered) found.registration = node;
    } else if (is_registered && DifferOnlyInCase(node.name(), name)) {
      found.similar = node.name();
    }
  }
  return found;
}

void ExamineState(const std::string& name, const Registration& node, Report& report) {
  switch (node.state) {
    case RegistrationState::kRemembered:
      report.Say("name", Verdict::kFailed,
                 absl::StrFormat("%s left at %s; it had port %d", name, TimeText(node.left_unix_ns),
                                 node.port),
                 "start the node, or see in its log why it has ended or lost its mapper");
      break;
    case RegistrationState::kOrphaned:
      report.Say(
          "name", Verdict::kWarning,
          absl::StrFormat("%s is registered since %s at port %d, but its connection was lost at %s",
                          name, TimeText(node.since_unix_ns), node.port,
                          TimeText(node.left_unix_ns)),
          "it is found as long as it runs; when it does not come back by itself within seconds, "
          "it is of OTP 23 or older");
      break;
    case RegistrationState::kLive:
      report.Say("name", Verdict::kOk,
                 absl::StrFormat("%s is registered since %s at port %d", name,
                                 TimeText(node.since_unix_ns), node.port));
      break;
  }
}

// Whether the node that gave its name is the one that was looked up.
void CompareNames(const NodeAddress& node, const NodeAnswer& answer, Report& report) {
  const std::string text = absl::StrFormat("an Erlang node answers: %s, and is called %s",
                                           Printable(answer.status), Printable(answer.node_name));
  const NodeAddress called = ParseNodeAddress(answer.node_name);
  if (called.name != node.name) {
    report.Say("handshake", Verdict::kFailed, text,
               "another node has the port of the one that was looked up: that one has ended");
  } else if (!node.host.empty() && called.host != node.host) {
    report.Say("handshake", Verdict::kWarning, text,
               absl::StrFormat("connect to it by that name: it refuses to be called %s@%s",
                               Printable(node.name), Printable(node.host)));
  } else {
    report.Say("handshake", Verdict::kOk, text);
  }
}

void ExamineHandshake(const NodeAddress& node, const absl::StatusOr<NodeAnswer>& answer,
                      Report& report) {
  if (!answer.ok()) {
    const bool is_late = absl::IsDeadlineExceeded(answer.status());
    report.Say("handshake", Verdict::kFailed, std::string(answer.status().message()),
               is_late ? "the node is stopped or overloaded, or another program has its port"
                       : "another program has the node's port, or the node wants TLS "
                         "(-proto_dist inet_tls)");
    return;
  }
  if (answer->is_tls) {
    report.Say("handshake", Verdict::kOk,
               "the node answers with TLS, so it cannot be asked for its name");
    return;
  }
  if (answer->status == "not_allowed") {
    report.Say("handshake", Verdict::kWarning, "an Erlang node answers: not_allowed",
               "it lets in only the nodes that it was told to (net_kernel:allow/1)");
    return;
  }
  if (answer->node_name.empty()) {
    report.Say("handshake", Verdict::kWarning,
               absl::StrFormat("an Erlang node answers: %s, and not under which name",
                               Printable(answer->status)),
               "try again: it may be in the middle of another connection");
    return;
  }
  CompareNames(node, *answer, report);
}

}  // namespace

std::optional<FoundNode> FindInRegistry(CurrentRegistry& registry, const NodeAddress& node,
                                        Report& report) {
  NamesFound found;
  std::string error;
  const auto find = [&](const RegistryView& view) { found = FindNames(view, node.name); };
  if (!registry.Read(find, error)) {
    report.Say("name", Verdict::kFailed, error, "start the mapper");
    return std::nullopt;
  }
  const std::string name = Printable(node.name);
  if (!found.registration.has_value()) {
    report.Say("name", Verdict::kFailed,
               absl::StrFormat("no node %s has ever registered here", name),
               found.similar.empty()
                   ? "is it started with this name, on this host, and with this ERL_EPMD_PORT?"
                   : absl::StrFormat("there is one called %s: names differ in case",
                                     Printable(found.similar)));
    return std::nullopt;
  }
  const Registration& registration = *found.registration;
  ExamineState(name, registration, report);
  if (registration.state == RegistrationState::kRemembered) return std::nullopt;
  return FoundNode{registration.port, registration.highest_version};
}

std::optional<FoundNode> FindOverTcp(uint16_t mapper_port, const NodeAddress& node,
                                     Report& report) {
  const std::string host = HostOf(node);
  const auto found = Client(host, mapper_port, {.timeout = kProbeTimeout}).Lookup(node.name);
  const std::string name = Printable(node.name);
  if (found.ok()) {
    report.Say(
        "name", Verdict::kOk,
        absl::StrFormat("%s is registered on %s at port %d", name, Printable(host), found->port));
    return FoundNode{found->port, found->highest_version};
  }
  if (absl::IsNotFound(found.status())) {
    report.Say("name", Verdict::kFailed,
               absl::StrFormat("%s is not registered on %s", name, Printable(host)),
               "is it started with this name, on that host, and with this ERL_EPMD_PORT?");
  } else {
    report.Say("name", Verdict::kFailed, std::string(found.status().message()),
               "is the name well-formed, and does the mapper answer every time?");
  }
  return std::nullopt;
}

std::optional<NodeAnswer> ExamineNode(const NodeAddress& node, const FoundNode& found,
                                      bool is_this_host, Report& report) {
  const std::string host = HostOf(node);
  const std::string where = absl::StrFormat("%s port %d", Printable(host), found.port);
  std::vector<ListeningSocket> listening;
  if (is_this_host) listening = SocketsOn(ListeningSockets(), found.port);
  const Waiter waiter(absl::StrFormat("node on %s", where), kProbeTimeout);
  const absl::StatusOr<TcpConnection> connection = Connect(host, found.port, waiter);
  if (!connection.ok()) {
    const bool elsewhere = ErrnoOf(connection.status()) == ECONNREFUSED && !listening.empty();
    report.Say("node's port", Verdict::kFailed,
               absl::StrCat(where, " ", ConnectProblem(connection.status())),
               elsewhere
                   ? absl::StrFormat("the node listens on %s only: see inet_dist_use_interface",
                                     listening.front().address)
                   : ConnectAdvice(connection.status(),
                                   "the node has ended without its mapper noticing, does not "
                                   "accept yet, or is in another container or network namespace"));
    return std::nullopt;
  }
  report.Say("node's port", Verdict::kOk, absl::StrCat(where, " accepts connections"));
  ExamineAddresses("node's address", listening, "the node",
                   "nodes of other hosts cannot connect to it; see inet_dist_use_interface",
                   report);
  absl::StatusOr<NodeAnswer> answer =
      GreetNode(*connection, OwnName(), found.highest_version, waiter);
  ExamineHandshake(node, answer, report);
  if (!answer.ok()) return std::nullopt;
  return *std::move(answer);
}

}  // namespace evermap
