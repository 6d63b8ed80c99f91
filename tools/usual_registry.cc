#include "tools/usual_registry.h"

#include <unistd.h>

#include "registry/registry.h"

namespace evermap {
namespace {

bool IsThere(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

std::string UsualRegistryPath(uint16_t port, Preference preference) {
  const std::string own = DefaultRegistryPath(port);
  const std::string of_system = "/run/epmd/registry." + std::to_string(port);
  if (preference == Preference::kOwn && IsThere(own)) return own;
  return IsThere(of_system) ? of_system : own;
}

}  // namespace evermap
