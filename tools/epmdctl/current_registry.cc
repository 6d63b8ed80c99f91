#include "tools/epmdctl/current_registry.h"

#include <memory>
#include <string>

#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// Attempts to read a registry that another file replaces meanwhile. An upgrade replaces it once, so
// more replacements than this are not worth waiting for.
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

void NoteWithoutMapper(const MapperStatus& mapper) {
  if (!IsRunning(mapper)) PrintError("no mapper runs; this is what the last one has left");
}

}  // namespace evermap
