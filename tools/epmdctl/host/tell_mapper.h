// Sends a signal to a mapper.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_TELL_MAPPER_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_TELL_MAPPER_H_

#include <string>

#include "registry/status.h"

namespace evermap {

// How often it is looked whether a mapper has done what it was told, which takes it from some to some
// hundred milliseconds.
inline constexpr int kTellPollMs = 10;

// Sends it to the mapper that has the registry at `registry_path`, and to no other process that has its
// pid by now; empty, or what went wrong and what to do. What stands in a registry is said by its owner,
// who may send signals to processes of his own, but not have root send them to those of others.
std::string TellMapper(const std::string& registry_path, const MapperStatus& mapper, int signal);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_TELL_MAPPER_H_
