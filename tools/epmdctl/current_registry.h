// The registry of a mapper for tools that read it again and again. An upgrade of the mapper to
// another layout puts a new file in its place, and a tool must not go on reading the old one.
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
#include "registry/status.h"

namespace evermap {

class CurrentRegistry {
 public:
  explicit CurrentRegistry(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  // Number of files that were opened so far. It grows when a file has taken the place of the last.
  uint32_t openings() const { return openings_; }

  // Calls `read` with the registry at the path, and again if another file took its place meanwhile,
  // so that `read` must begin anew each time. False when the registry cannot be opened; `error`
  // then says why and what to do.
  bool Read(absl::FunctionRef<void(const RegistryView&)> read, std::string& error);

 private:
  const std::string path_;
  std::unique_ptr<Reader> reader_;
  uint32_t openings_ = 0;
};

// Says on standard error that what a registry shows is what its last mapper has left, if none runs.
void NoteWithoutMapper(const MapperStatus& mapper);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_CURRENT_REGISTRY_H_
