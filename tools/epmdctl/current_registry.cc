#include "tools/epmdctl/current_registry.h"

#include <unistd.h>

#include <memory>
#include <string>

#include "registry/registry.h"

namespace evermap {
namespace {

// A registry is replaced once an upgrade; one that is replaced this often while it is read is not
// worth waiting for.
constexpr int kReadsMax = 10;

}  // namespace

bool CurrentRegistry::Read(absl::FunctionRef<void(const RegistryView&)> read, std::string& error) {
  for (int i = 0; i < kReadsMax; ++i) {
    if (reader_ == nullptr || !reader_->IsNamed(path_)) {
      reader_ = Reader::Open(path_, error);
      if (reader_ == nullptr) return false;
      ++openings_;
    }
    read(reader_->view());
    if (reader_->IsNamed(path_)) break;
  }
  return true;
}

std::string UsualRegistryPath(uint16_t port) {
  const std::string own = DefaultRegistryPath(port);
  const std::string of_system = "/run/epmd/registry." + std::to_string(port);
  const auto is_there = [](const std::string& path) { return access(path.c_str(), F_OK) == 0; };
  return !is_there(own) && is_there(of_system) ? of_system : own;
}

}  // namespace evermap
