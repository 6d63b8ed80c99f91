// Which registry a tool means when its user does not name one.
#ifndef EVERMAP_TOOLS_USUAL_REGISTRY_H_
#define EVERMAP_TOOLS_USUAL_REGISTRY_H_

#include <cstdint>
#include <string>

namespace evermap {

// Which of two mappers on one port is meant when nobody says so.
enum class Preference : uint8_t {
  kOwn,     // the one that this user runs: for people, who ask about their own first
  kSystem,  // the system's service: for what watches a host as a user of its own
};
// Path of the registry of the mapper on `port` when nobody names one. That is the preferred of the
// user's own (DefaultRegistryPath()) and the system's if a file is there, else the other one if a
// file is there, else the user's own.
std::string UsualRegistryPath(uint16_t port, Preference preference);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_USUAL_REGISTRY_H_
