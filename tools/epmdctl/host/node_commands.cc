#include "tools/epmdctl/host/node_commands.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "registry/base/file_text.h"

namespace evermap {
namespace {

// Longer than the kernel lets a command line be, unless there is more stack than usual; but a process
// may say that its own lies anywhere (PR_SET_MM).
constexpr size_t kCommandLineMax = 2 << 20;

std::vector<std::string> ArgumentsOf(pid_t pid) {
  const std::string text = FileText(absl::StrCat("/proc/", pid, "/cmdline"), kCommandLineMax);
  std::vector<std::string> arguments;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\0', at), text.size());
    arguments.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return arguments;
}

void SetName(const std::string& value, bool is_long, NodeCommand& node) {
  const size_t at = value.find('@');
  node.name = value.substr(0, at);
  node.host = at == std::string::npos ? "" : value.substr(at + 1);
  node.has_long_name = is_long;
  node.is_dynamic = value == "undefined";
}

}  // namespace

NodeCommand ParseNodeCommand(const std::vector<std::string>& arguments) {
  NodeCommand node;
  for (size_t i = 0; i + 1 < arguments.size(); ++i) {
    const std::string& flag = arguments[i];
    const std::string& value = arguments[i + 1];
    // What follows is the program's own.
    if (flag == "-extra") break;
    if (flag == "-sname" || flag == "-name") {
      SetName(value, flag == "-name", node);
    } else if (flag == "-dist_listen") {
      node.listens = value != "false";
    } else if (flag == "-erl_epmd_port") {
      node.fixed_port = value;
    } else if (flag == "-epmd_module") {
      node.discovery_module = value;
    } else if (flag == "-proto_dist" && node.distribution.empty()) {
      node.distribution = value;
    } else if (flag == "-epmd_port") {
      node.mapper_port = value;
    } else if (flag == "-kernel") {
      // Pairs of a parameter and its value, up to the next flag.
      for (size_t at = i + 1; at + 1 < arguments.size() && !arguments[at].starts_with('-');
           at += 2) {
        if (arguments[at] == "erl_epmd_node_listen_port") node.fixed_port = arguments[at + 1];
        if (arguments[at] == "epmd_module") node.discovery_module = arguments[at + 1];
      }
    }
  }
  for (const std::string& flag : arguments) {
    if (flag == "-extra") break;
    if (flag == "-no_epmd") node.has_no_mapper = true;
  }
  return node;
}

bool IsInThisNetwork(pid_t pid) {
  struct stat its;
  struct stat own;
  if (stat(absl::StrCat("/proc/", pid, "/ns/net").c_str(), &its) != 0 ||
      stat("/proc/self/ns/net", &own) != 0) {
    return true;
  }
  return its.st_ino == own.st_ino;
}

std::vector<NodeCommand> NodeCommands() {
  std::vector<NodeCommand> nodes;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string text = entry.path().filename();
    pid_t pid = 0;
    const auto number = std::from_chars(text.data(), text.data() + text.size(), pid);
    if (number.ec != std::errc() || number.ptr != text.data() + text.size()) continue;
    const std::string program = FileText(absl::StrCat("/proc/", pid, "/comm"));
    if (program != "beam.smp\n" && program != "beam\n") continue;
    NodeCommand node = ParseNodeCommand(ArgumentsOf(pid));
    if (node.name.empty()) continue;
    node.pid = pid;
    node.is_in_other_network = !IsInThisNetwork(pid);
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::optional<Absence> WhyNotRegistered(const NodeCommand& node, uint16_t port) {
  if (!node.listens) {
    return Absence{
        "it does not listen for other nodes (-dist_listen false), and so it has no name in "
        "a mapper",
        "leave that flag out if others are to connect to it"};
  }
  if (node.is_dynamic) {
    return Absence{
        "its name is dynamic (-sname or -name undefined): it gets one from the first node "
        "that it connects to, and none in a mapper",
        "give it a name if others are to connect to it"};
  }
  if (node.has_no_mapper) {
    return Absence{"it was told to use no mapper (-no_epmd)",
                   "others need its port by another way: -erl_epmd_port, or a module of their own"};
  }
  if (!node.discovery_module.empty() && node.discovery_module != "erl_epmd") {
    return Absence{absl::StrCat("it finds and announces nodes by the module ",
                                node.discovery_module, " instead of a mapper"),
                   "ask that module; others that are to find it need the same one"};
  }
  if (!node.fixed_port.empty()) {
    return Absence{
        absl::StrCat("it listens on the fixed port ", node.fixed_port,
                     " (-erl_epmd_port, erl_epmd_node_listen_port), which others have to "
                     "know; it needs no mapper for that, and looks for one only once"),
        "give those that are to connect to it the same port"};
  }
  if (!node.mapper_port.empty() && node.mapper_port != std::to_string(port)) {
    return Absence{
        absl::StrCat("it registers with the mapper on port ", node.mapper_port, " (ERL_EPMD_PORT)"),
        absl::StrCat("look there (--port ", node.mapper_port,
                     "), or start it with ERL_EPMD_PORT=", port)};
  }
  if (node.is_in_other_network) {
    return Absence{
        "it is in another network namespace, as in a container, and registers with the "
        "mapper there",
        absl::StrCat("look there: nsenter -t ", node.pid, " -n epmdctl doctor")};
  }
  return std::nullopt;
}

}  // namespace evermap
