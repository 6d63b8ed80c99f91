#include "tools/epmdctl/doctor/doctor_command.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "daemon/wire/client.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/registration.h"
#include "registry/status.h"
#include "tools/epmdctl/host/handshake.h"
#include "tools/epmdctl/host/processes.h"
#include "tools/epmdctl/lookup_command.h"
#include "tools/epmdctl/remote.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// Of one thing that is tried over TCP. On a network that works an answer takes milliseconds, and
// the first packet that is lost is sent again after one second.
constexpr absl::Duration kProbeTimeout = absl::Seconds(3);
// Comparing shared memory with an answer over TCP is tried again when a node came or went
// meanwhile.
constexpr int kComparisonsMax = 5;
// Names that are listed in a sentence.
constexpr size_t kNamesShownMax = 5;
constexpr char kMapperProgram[] = "epmd";

enum class Verdict : uint8_t { kOk, kWarning, kFailed };

const char* VerdictText(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kWarning:
      return "warning";
    case Verdict::kFailed:
      return "failed";
  }
  return "unknown";
}

struct Check {
  const char* name;  // of what was checked
  Verdict verdict;
  std::string text;    // what was found
  std::string advice;  // what to do; empty when nothing is
};

// What is known of the node once it has been looked up.
struct FoundNode {
  uint16_t port = 0;
  uint16_t highest_version = protocol::kVersionWithLongCreation;
};

// Why a connection could not be made, in the terms of networks.
std::string ConnectProblem(const absl::Status& status) {
  if (absl::IsDeadlineExceeded(status)) {
    return absl::StrFormat("does not answer within %s, not even by refusing",
                           absl::FormatDuration(kProbeTimeout));
  }
  switch (ErrnoOf(status)) {
    case 0:
      return std::string(status.message());
    case ECONNREFUSED:
      return "refuses connections: nobody listens there";
    default:
      return absl::StrCat("cannot be reached: ", ErrorText(ErrnoOf(status)));
  }
}

std::string ConnectAdvice(const absl::Status& status, const std::string& if_refused) {
  if (absl::IsDeadlineExceeded(status)) {
    return "a firewall that drops packets looks like this: open the port there, or find out "
           "whether the process is stopped";
  }
  switch (ErrnoOf(status)) {
    case 0:
      return "";
    case ECONNREFUSED:
      return if_refused;
    default:
      return "check the route to that host, and firewalls that reject";
  }
}

// The addresses of a host as text, each once.
std::vector<std::string> TextsOf(const Addresses& addresses) {
  std::vector<std::string> texts;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    char text[NI_MAXHOST] = "";
    getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST);
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
  }
  return texts;
}

// Whether one of the addresses is this host's: only then a socket can be bound to it.
bool IsThisHost(const Addresses& addresses) {
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    const OwnedFd fd(socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address = {};
    std::memcpy(&address, a->ai_addr, a->ai_addrlen);
    // The port is at the same place in both families.
    reinterpret_cast<sockaddr_in&>(address).sin_port = 0;
    if (fd.valid() && bind(fd.get(), reinterpret_cast<sockaddr*>(&address), a->ai_addrlen) == 0) {
      return true;
    }
  }
  return false;
}

std::string Listed(const std::vector<std::string>& names) {
  std::vector<std::string> shown(
      names.begin(),
      names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kNamesShownMax)));
  for (std::string& name : shown) name = Printable(name);
  return absl::StrJoin(shown, ", ") + (names.size() > kNamesShownMax ? ", ..." : "");
}

std::string ListedProcess(const Process& process) {
  return absl::StrFormat("%d (%s)", process.pid, Printable(process.name));
}

// NAME@HOST as which a node is greeted. Always the same: a node remembers all names it has met.
std::string OwnName() {
  std::array<char, 256> host = {};
  if (gethostname(host.data(), host.size() - 1) != 0) return "epmdctl_doctor@localhost";
  return absl::StrCat("epmdctl_doctor@", host.data());
}

// "1 node", "2 nodes".
std::string NodesText(size_t count) { return absl::StrCat(count, count == 1 ? " node" : " nodes"); }

class Doctor {
 public:
  Doctor(CurrentRegistry& registry, uint16_t port, NodeAddress node)
      : registry_(registry), port_(port), node_(std::move(node)) {}

  const std::vector<Check>& Examine() {
    if (!node_.host.empty() && !ExamineHost()) return checks_;
    bool can_answer = false;
    if (is_this_host_) can_answer = ExamineThisHost();
    if (!node_.host.empty()) can_answer |= ExamineAnswer(node_.host, "mapper on the host");
    if (node_.name.empty() || !can_answer) return checks_;
    const std::optional<FoundNode> found = FindNode();
    if (found.has_value()) ExamineNode(*found);
    return checks_;
  }

 private:
  void Say(const char* name, Verdict verdict, std::string text, std::string advice = "") {
    checks_.push_back({name, verdict, std::move(text), std::move(advice)});
  }

  // False when nothing more can be found out.
  bool ExamineHost() {
    const absl::StatusOr<Addresses> addresses = Resolve(node_.host, port_);
    if (!addresses.ok()) {
      Say("host", Verdict::kFailed,
          absl::StrFormat("%s has no address that this host can look up", Printable(node_.host)),
          "put it into /etc/hosts or the DNS, or give the host part as the node was started with");
      return false;
    }
    is_this_host_ = IsThisHost(*addresses);
    Say("host", Verdict::kOk,
        absl::StrFormat("%s is %s%s", Printable(node_.host), Listed(TextsOf(*addresses)),
                        is_this_host_ ? ", this host" : ""));
    return true;
  }

  // Whether registry or mapper can be asked for a name.
  bool ExamineThisHost() {
    ExamineRegistry();
    const bool answers = ExamineAnswer(kThisHost, "mapper over TCP");
    sockets_ = ListeningSockets();
    ExamineHolders();
    if (answers) {
      ExamineMapperAddress();
      if (has_registry_) CompareAnswers();
    }
    ExamineOtherMappers();
    return has_registry_ || answers;
  }

  void ExamineRegistry() {
    std::string error;
    uint32_t registered = 0;
    has_registry_ = registry_.Read(
        [&](const RegistryView& view) {
          mapper_ = view.mapper_status();
          registered = view.CountLive();
        },
        error);
    if (!has_registry_) {
      Say("registry", Verdict::kWarning, error,
          "nothing to do if the mapper is another epmd than Evermap's; else name its registry with "
          "--registry");
      return;
    }
    mapper_runs_ = IsRunning(mapper_);
    Say("registry", Verdict::kOk,
        absl::StrFormat("%s: %s registered", registry_.path(), NodesText(registered)));
    if (mapper_runs_) {
      Say("mapper process", Verdict::kOk,
          absl::StrFormat("runs: pid %d, version %s, since %s", mapper_.pid, mapper_.version,
                          TimeText(mapper_.started_unix_ns)));
    } else {
      Say("mapper process", Verdict::kFailed,
          mapper_.pid == 0 ? "no mapper has ever written to this registry"
                           : absl::StrFormat("pid %d, the last one, does not run", mapper_.pid),
          "start the mapper: epmd -daemon, or systemctl start epmd");
    }
  }

  // Whether a mapper answers on a host.
  bool ExamineAnswer(const std::string& host, const char* check) {
    const Client client(host, port_, {.timeout = kProbeTimeout});
    const absl::Time begin = absl::Now();
    const absl::StatusOr<std::vector<Client::NamedPort>> names = client.Names();
    const std::string where = absl::StrFormat("%s port %d", Printable(host), port_);
    if (names.ok()) {
      Say(check, Verdict::kOk,
          absl::StrFormat("%s answers, in %.1f ms, and lists %s", where,
                          absl::ToDoubleMilliseconds(absl::Now() - begin),
                          NodesText(names->size())));
      return true;
    }
    const bool is_stranger = absl::IsDataLoss(names.status()) ||
                             absl::IsInvalidArgument(names.status()) ||
                             ErrnoOf(names.status()) == ECONNRESET;
    if (is_stranger) {
      Say(check, Verdict::kFailed, absl::StrCat(where, " is held by something that is no mapper"),
          "end that program, or give the mapper another port (ERL_EPMD_PORT)");
    } else {
      Say(check, Verdict::kFailed, absl::StrCat(where, " ", ConnectProblem(names.status())),
          ConnectAdvice(names.status(),
                        "start the mapper there, with this port and an -address that includes "
                        "this one"));
    }
    return false;
  }

  // Whether it is the mapper of the registry, or keeps its sockets: a keeper, systemd, or the
  // mapper before it.
  bool IsOfMapper(const Process& process) const {
    if (!mapper_runs_) return false;
    const auto mapper_pid = static_cast<pid_t>(mapper_.pid);
    const std::vector<pid_t> family = WithAncestors(mapper_pid);
    if (std::find(family.begin(), family.end(), process.pid) != family.end()) return true;
    const auto mapper = std::find_if(processes_.begin(), processes_.end(),
                                     [&](const Process& p) { return p.pid == mapper_pid; });
    if (mapper == processes_.end()) return false;
    return std::any_of(
        process.listening.begin(), process.listening.end(), [&](const ListeningSocket& held) {
          return std::any_of(mapper->listening.begin(), mapper->listening.end(),
                             [&](const ListeningSocket& own) { return own.inode == held.inode; });
        });
  }

  // Of this host: who holds the port.
  void ExamineHolders() {
    const std::vector<ListeningSocket> on_port = SocketsOn(sockets_, port_);
    // Of those that only see each other in the table of sockets.
    processes_ = ProcessesAt(sockets_, kMapperProgram);
    if (on_port.empty()) return;
    std::vector<std::string> ours;
    std::vector<std::string> others;
    for (const Process& process : processes_) {
      if (SocketsOn(process.listening, port_).empty()) continue;
      const bool is_ours = mapper_runs_ ? IsOfMapper(process) : process.name == kMapperProgram;
      (is_ours ? ours : others).push_back(ListedProcess(process));
    }
    if (!others.empty()) {
      Say("holder of the port", Verdict::kFailed,
          absl::StrFormat("port %d is also held by %s", port_, Listed(others)),
          "end it, or let one of the two use another port; requests go to either");
    } else if (ours.empty()) {
      Say("holder of the port", Verdict::kOk,
          "is not visible to this user; run as root to see whether it is one process");
    } else {
      Say("holder of the port", Verdict::kOk,
          absl::StrFormat("port %d is held by %s and nobody else", port_, Listed(ours)));
    }
  }

  void ExamineMapperAddress() {
    const std::vector<ListeningSocket> on_port = SocketsOn(sockets_, port_);
    SayAddresses("mapper's address", on_port, "the mapper",
                 "only nodes of this host find others; if that is not wanted, start it without "
                 "-address and ERL_EPMD_ADDRESS");
  }

  // On which addresses somebody listens.
  void SayAddresses(const char* check, const std::vector<ListeningSocket>& sockets,
                    const std::string& who, const std::string& if_loopback) {
    if (sockets.empty()) return;
    std::vector<std::string> addresses;
    bool is_loopback_only = true;
    for (const ListeningSocket& socket : sockets) {
      addresses.push_back(socket.address);
      is_loopback_only = is_loopback_only && socket.IsLoopback();
    }
    const std::string text = absl::StrFormat("%s listens on %s", who, Listed(addresses));
    if (is_loopback_only) {
      Say(check, Verdict::kWarning, text + ": other hosts cannot reach it", if_loopback);
    } else {
      Say(check, Verdict::kOk, text);
    }
  }

  // Whether who answers over TCP is the mapper whose registry this is.
  void CompareAnswers() {
    std::vector<std::string> only_in_memory;
    std::vector<std::string> only_over_tcp;
    for (int i = 0; i < kComparisonsMax; ++i) {
      std::set<std::string> in_memory;
      uint64_t generation = 0;
      std::string error;
      const auto collect = [&](const RegistryView& view) {
        in_memory.clear();
        generation = view.generation();
        Registration node;
        for (uint32_t slot = 0; slot < view.slots_used(); ++slot) {
          if (view.ReadSlot(slot, node) && node.state != RegistrationState::kRemembered) {
            in_memory.emplace(node.name());
          }
        }
      };
      if (!registry_.Read(collect, error)) return;
      const auto names = Client(kThisHost, port_, {.timeout = kProbeTimeout}).Names();
      if (!names.ok()) return;
      std::set<std::string> over_tcp;
      for (const Client::NamedPort& node : *names) over_tcp.insert(node.name);
      only_in_memory.clear();
      only_over_tcp.clear();
      std::set_difference(in_memory.begin(), in_memory.end(), over_tcp.begin(), over_tcp.end(),
                          std::back_inserter(only_in_memory));
      std::set_difference(over_tcp.begin(), over_tcp.end(), in_memory.begin(), in_memory.end(),
                          std::back_inserter(only_over_tcp));
      bool is_stable = false;
      if (!registry_.Read(
              [&](const RegistryView& view) { is_stable = view.generation() == generation; },
              error)) {
        return;
      }
      if (is_stable || (only_in_memory.empty() && only_over_tcp.empty())) break;
    }
    if (only_in_memory.empty() && only_over_tcp.empty()) {
      Say("one mapper", Verdict::kOk, "registry and TCP name the same nodes");
      return;
    }
    std::string text =
        "registry and TCP differ, so another mapper answers than the one whose "
        "registry this is;";
    if (!only_in_memory.empty()) text += " only in the registry: " + Listed(only_in_memory);
    if (!only_over_tcp.empty()) {
      text += absl::StrCat(only_in_memory.empty() ? "" : ";",
                           " only over TCP: ", Listed(only_over_tcp));
    }
    Say("one mapper", Verdict::kFailed, text,
        "end the one that is not wanted, or name the right --port and --registry");
  }

  void ExamineOtherMappers() {
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
      Say("other mappers", Verdict::kOk, "none is seen on another port");
    } else {
      Say("other mappers", Verdict::kWarning, "there are others, on " + Listed(others),
          "a node registers with the one on its ERL_EPMD_PORT, and is found only there");
    }
  }

  std::optional<FoundNode> FindNode() {
    const bool in_memory = is_this_host_ && has_registry_;
    return in_memory ? FindInRegistry() : FindOverTcp();
  }

  std::optional<FoundNode> FindInRegistry() {
    // Of the states that the name is in, the one that a lookup prefers.
    std::optional<Registration> found;
    std::string similar;
    std::string error;
    const auto find = [&](const RegistryView& view) {
      found.reset();
      similar.clear();
      Registration node;
      for (uint32_t slot = 0; slot < view.slots_used(); ++slot) {
        if (!view.ReadSlot(slot, node)) continue;
        const bool is_registered = node.state != RegistrationState::kRemembered;
        if (node.name() == node_.name) {
          if (!found.has_value() || is_registered) found = node;
        } else if (is_registered && absl::AsciiStrToLower(std::string(node.name())) ==
                                        absl::AsciiStrToLower(node_.name)) {
          similar = node.name();
        }
      }
    };
    if (!registry_.Read(find, error)) {
      Say("name", Verdict::kFailed, error, "start the mapper");
      return std::nullopt;
    }
    const std::string name = Printable(node_.name);
    if (!found.has_value()) {
      Say("name", Verdict::kFailed, absl::StrFormat("no node %s has ever registered here", name),
          similar.empty()
              ? "is it started with this name, on this host, and with this ERL_EPMD_PORT?"
              : absl::StrFormat("there is one called %s: names differ in case",
                                Printable(similar)));
      return std::nullopt;
    }
    switch (found->state) {
      case RegistrationState::kRemembered:
        Say("name", Verdict::kFailed,
            absl::StrFormat("%s left at %s; it had port %d", name, TimeText(found->left_unix_ns),
                            found->port),
            "start the node, or see in its log why it has ended or lost its mapper");
        return std::nullopt;
      case RegistrationState::kOrphaned:
        Say("name", Verdict::kWarning,
            absl::StrFormat("%s is registered since %s at port %d, but its connection was lost at "
                            "%s",
                            name, TimeText(found->since_unix_ns), found->port,
                            TimeText(found->left_unix_ns)),
            "it is found as long as it runs; when it does not come back by itself within seconds, "
            "it is of OTP 23 or older");
        break;
      case RegistrationState::kLive:
        Say("name", Verdict::kOk,
            absl::StrFormat("%s is registered since %s at port %d", name,
                            TimeText(found->since_unix_ns), found->port));
        break;
    }
    return FoundNode{found->port, found->highest_version};
  }

  std::optional<FoundNode> FindOverTcp() {
    const std::string host = node_.host.empty() ? std::string(kThisHost) : node_.host;
    const auto node = Client(host, port_, {.timeout = kProbeTimeout}).Lookup(node_.name);
    const std::string name = Printable(node_.name);
    if (node.ok()) {
      Say("name", Verdict::kOk,
          absl::StrFormat("%s is registered on %s at port %d", name, Printable(host), node->port));
      return FoundNode{node->port, node->highest_version};
    }
    if (absl::IsNotFound(node.status())) {
      Say("name", Verdict::kFailed,
          absl::StrFormat("%s is not registered on %s", name, Printable(host)),
          "is it started with this name, on that host, and with this ERL_EPMD_PORT?");
    } else {
      Say("name", Verdict::kFailed, std::string(node.status().message()),
          "is the name well-formed, and does the mapper answer every time?");
    }
    return std::nullopt;
  }

  void ExamineNode(const FoundNode& found) {
    const std::string host = node_.host.empty() ? std::string(kThisHost) : node_.host;
    const std::string where = absl::StrFormat("%s port %d", Printable(host), found.port);
    std::vector<ListeningSocket> listening;
    if (is_this_host_) listening = SocketsOn(sockets_ = ListeningSockets(), found.port);
    const Waiter waiter(absl::StrFormat("node on %s", where), kProbeTimeout);
    const absl::StatusOr<TcpConnection> connection = Connect(host, found.port, waiter);
    if (!connection.ok()) {
      const bool elsewhere = ErrnoOf(connection.status()) == ECONNREFUSED && !listening.empty();
      Say("node's port", Verdict::kFailed,
          absl::StrCat(where, " ", ConnectProblem(connection.status())),
          elsewhere
              ? absl::StrFormat("the node listens on %s only: see inet_dist_use_interface",
                                listening.front().address)
              : ConnectAdvice(connection.status(),
                              "the node has ended without its mapper noticing, does not accept "
                              "yet, or is in another container or network namespace"));
      return;
    }
    Say("node's port", Verdict::kOk, absl::StrCat(where, " accepts connections"));
    SayAddresses("node's address", listening, "the node",
                 "nodes of other hosts cannot connect to it; see inet_dist_use_interface");
    Greet(*connection, found, waiter);
  }

  void Greet(const TcpConnection& connection, const FoundNode& found, const Waiter& waiter) {
    const absl::StatusOr<NodeAnswer> answer =
        GreetNode(connection, OwnName(), found.highest_version, waiter);
    if (!answer.ok()) {
      const bool is_late = absl::IsDeadlineExceeded(answer.status());
      Say("handshake", Verdict::kFailed, std::string(answer.status().message()),
          is_late ? "the node is stopped or overloaded, or another program has its port"
                  : "another program has the node's port, or the node wants TLS "
                    "(-proto_dist inet_tls)");
      return;
    }
    if (answer->is_tls) {
      Say("handshake", Verdict::kOk,
          "the node answers with TLS, so it cannot be asked for its name");
      return;
    }
    const std::string status = Printable(answer->status);
    if (answer->status == "not_allowed") {
      Say("handshake", Verdict::kWarning, "an Erlang node answers: not_allowed",
          "it lets in only the nodes that it was told to (net_kernel:allow/1)");
      return;
    }
    if (answer->node_name.empty()) {
      Say("handshake", Verdict::kWarning,
          absl::StrFormat("an Erlang node answers: %s, and not under which name", status),
          "try again: it may be in the middle of another connection");
      return;
    }
    const std::string name = Printable(answer->node_name);
    const std::string text =
        absl::StrFormat("an Erlang node answers: %s, and is called %s", status, name);
    const NodeAddress called = ParseNodeAddress(answer->node_name);
    if (called.name != node_.name) {
      Say("handshake", Verdict::kFailed, text,
          "another node has the port of the one that was looked up: that one has ended");
    } else if (!node_.host.empty() && called.host != node_.host) {
      Say("handshake", Verdict::kWarning, text,
          absl::StrFormat("connect to it by that name: it refuses to be called %s@%s",
                          Printable(node_.name), Printable(node_.host)));
    } else {
      Say("handshake", Verdict::kOk, text);
    }
  }

  CurrentRegistry& registry_;
  const uint16_t port_;
  const NodeAddress node_;
  std::vector<Check> checks_;

  bool is_this_host_ = true;
  bool has_registry_ = false;
  MapperStatus mapper_;
  bool mapper_runs_ = false;
  std::vector<ListeningSocket> sockets_;
  std::vector<Process> processes_;
};

void Print(const std::vector<Check>& checks) {
  constexpr size_t kIndent = 29;
  const Style style = Style::OfStandardOutput();
  const std::string indent = "\n" + std::string(kIndent, ' ');
  const size_t columns = OutputColumns();
  const size_t text_columns = columns > 2 * kIndent ? columns - kIndent : columns;
  for (const Check& check : checks) {
    const std::string verdict = Fitted(VerdictText(check.verdict), 7);
    const std::string shown = check.verdict == Verdict::kOk        ? style.Good(verdict)
                              : check.verdict == Verdict::kWarning ? style.Warning(verdict)
                                                                   : style.Bad(verdict);
    std::string text = shown + "  " + Fitted(check.name, 18) + "  " +
                       absl::StrJoin(Wrapped(Printable(check.text), text_columns), indent);
    if (!check.advice.empty()) {
      for (const std::string& line : Wrapped("-> " + check.advice, text_columns)) {
        text += indent + style.Strong(line);
      }
    }
    std::printf("%s\n", text.c_str());
  }
}

}  // namespace

int Diagnose(CurrentRegistry& registry, uint16_t port, const std::string& node, bool json) {
  Doctor doctor(registry, port, ParseNodeAddress(node));
  const std::vector<Check>& checks = doctor.Examine();
  const bool has_failed = std::any_of(checks.begin(), checks.end(), [](const Check& check) {
    return check.verdict == Verdict::kFailed;
  });
  if (json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Check& check : checks) {
      list.push_back({
          {"check", check.name},
          {"result", VerdictText(check.verdict)},
          {"text", check.text},
          {"advice", check.advice.empty() ? nlohmann::json() : nlohmann::json(check.advice)},
      });
    }
    PrintJson({{"node", node.empty() ? nlohmann::json() : nlohmann::json(node)},
               {"port", port},
               {"failed", has_failed},
               {"checks", list}});
  } else {
    Print(checks);
  }
  return has_failed ? kExitFailed : 0;
}

}  // namespace evermap
