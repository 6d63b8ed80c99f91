// The nodes of this host as their command lines tell of them: what they are called, and which flags keep
// them away from the mapper.
//
// ParseNodeCommand() and WhyNotRegistered() are pure.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_NODE_COMMANDS_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_NODE_COMMANDS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace evermap {

// Of a process that runs the Erlang emulator. An empty text: the flag was not given.
struct NodeCommand {
  pid_t pid = 0;
  std::string name;  // of -sname or -name, without the host
  std::string host;  // where one was given
  bool has_long_name = false;
  bool is_dynamic = false;           // it is to get a name from the node that it connects to
  bool listens = true;               // but for -dist_listen false
  bool has_no_mapper = false;        // -no_epmd
  std::string fixed_port;            // of -erl_epmd_port or erl_epmd_node_listen_port
  std::string discovery_module;      // of -epmd_module or epmd_module
  std::string distribution;          // of -proto_dist
  std::string mapper_port;           // of ERL_EPMD_PORT, which reaches it as -epmd_port
  bool is_in_other_network = false;  // it is in another network namespace than this process

  bool is_tls() const { return distribution.find("tls") != std::string::npos; }
};

// `arguments`: the whole command line.
NodeCommand ParseNodeCommand(const std::vector<std::string>& arguments);

// All processes that run beam or beam.smp, as far as /proc shows them, but those that have no name.
std::vector<NodeCommand> NodeCommands();

struct Absence {
  std::string text;    // why the node is in no mapper, or in another one
  std::string advice;  // what to do where that is not wanted
};
// Nothing when its command line gives no reason. `port`: of the mapper in which it is missed.
std::optional<Absence> WhyNotRegistered(const NodeCommand& node, uint16_t port);

// Whether the process is in the network namespace of this one; true when that cannot be told.
bool IsInThisNetwork(pid_t pid);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_NODE_COMMANDS_H_
