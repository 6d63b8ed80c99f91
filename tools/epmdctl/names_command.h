// epmdctl names: the nodes that any mapper knows, asked over TCP.
#ifndef EVERMAP_TOOLS_EPMDCTL_NAMES_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_NAMES_COMMAND_H_

#include <cstdint>
#include <string>

namespace evermap {

// Prints the nodes in the order of the mapper. Returns the exit code.
int ListNames(const std::string& host, uint16_t port, bool json);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_NAMES_COMMAND_H_
