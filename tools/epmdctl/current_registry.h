// The registry of a mapper, read by tools that must not be fooled by an upgrade in between.
//
//   CurrentRegistry registry(path);
//   std::vector<Registration> nodes;
//   std::string error;
//   if (!registry.Read([&](const RegistryView& view) { nodes = AllOf(view); }, error)) fail(error);
#ifndef EVERMAP_TOOLS_EPMDCTL_CURRENT_REGISTRY_H_
#define EVERMAP_TOOLS_EPMDCTL_CURRENT_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "registry/reader.h"

namespace evermap {

class CurrentRegistry {
 public:
  explicit CurrentRegistry(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  // How often a file was opened: grows when another has taken the place of the last.
  uint32_t openings() const { return openings_; }

  // Calls `read` with the registry at the path, and again if another file took its place meanwhile.
  // False when it cannot be opened; `error` then says why and what to do.
  bool Read(absl::FunctionRef<void(const RegistryView&)> read, std::string& error);

 private:
  const std::string path_;
  std::unique_ptr<Reader> reader_;
  uint32_t openings_ = 0;
};

// Where the registry of the mapper on `port` is when nobody says so: where one that this user runs
// keeps it, or, when nothing is there, where the system's service does.
std::string UsualRegistryPath(uint16_t port);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_CURRENT_REGISTRY_H_
