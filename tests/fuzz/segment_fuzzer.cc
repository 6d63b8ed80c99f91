// A hostile registry file (INV-6): a valid one with words of it changed, in the newest layout or in
// version 1, or any bytes. Readers, migration and writers give answers or errors, and neither crash nor
// hang.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "registry/base/owned_fd.h"
#include "registry/layout.h"
#include "registry/layout_v1.h"
#include "registry/layout_v1_testing.h"
#include "registry/location.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "tests/fuzz/input.h"

namespace evermap {
namespace {

constexpr uint32_t kCapacity = 8;
constexpr size_t kChangesMax = 64;

// A directory that goes with the process.
class Place {
 public:
  Place() {
    Require(mkdtemp(directory_.data()) != nullptr);
    auto registry = Registry::Open({.path = path(), .capacity = kCapacity});
    Require(registry.ok());
    const std::string extra(900, 'e');
    for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
      const RegisterResult node = (*registry)->Register({.name = name, .extra = extra});
      if (*name == 'c') (*registry)->Unregister(node.slot, node.id);
      if (*name == 'd') (*registry)->Orphan(node.slot, node.id);
    }
    (*registry)->SetMapperStatus({.pid = 1, .version = "1"});
    registry->reset();
    const OwnedFd fd(open(path().c_str(), O_RDONLY | O_CLOEXEC));
    valid_.resize(layout::GeometryFor(kCapacity).file_size_max);
    Require(read(fd.get(), valid_.data(), valid_.size()) == static_cast<ssize_t>(valid_.size()));
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    for (const std::string& file :
         {path(), LockPath(path()), PreviousPath(path()), MigratingPath(path())}) {
      unlink(file.c_str());
    }
    rmdir(directory_.c_str());
  }
  std::string path() const { return directory_ + "/registry"; }
  const std::string& valid() const { return valid_; }

 private:
  std::string directory_ = "/dev/shm/segment-fuzzer-XXXXXX";
  std::string valid_;
};

void Write(const std::string& path, std::string_view content) {
  unlink(path.c_str());
  const OwnedFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  Require(write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
}

// Where a word is that matters: in the header, a bucket, a record or a block of text. Version 1 has these
// areas in the same order.
uint64_t OffsetOf(const layout::Geometry& g, uint8_t area, uint16_t at) {
  const uint64_t words = uint64_t{at} * 8;
  switch (area % 4) {
    case 0:
      return words % layout::kPageSize;
    case 1:
      return g.buckets_offset + words % (g.buckets * 8);
    case 2:
      if (g.extents_max != 0) return g.extents_offset + words % g.extent_size;
      return g.records_offset + words % (g.overflow_offset - g.records_offset);
    default:
      if (g.extents_max != 0) return g.extents_offset + g.extent_size + words % g.extent_size;
      return g.overflow_offset + words % (g.file_size_max - g.overflow_offset);
  }
}

void Use(const std::string& path) {
  Registration found;
  std::string error;
  const auto reader = Reader::Open(path, error);
  Require(reader != nullptr || !error.empty());
  if (reader != nullptr) {
    for (const char* name : {"a", "b", "c", "d", "e", "f", "g"}) reader->view().Lookup(name, found);
    for (uint32_t slot = 0; slot <= reader->view().slots_used(); ++slot) {
      reader->view().ReadSlot(slot, found);
    }
    (void)reader->view().mapper_status();
    (void)reader->view().upgrade_status();
    (void)reader->view().CountLive();
  }
  auto registry = Registry::Open({.path = path, .capacity = kCapacity});
  if (!registry.ok()) return;
  for (const char* name : {"a", "c", "g", "h", "i", "j", "k"}) {
    const RegisterResult node = (*registry)->Register({.name = name, .port = 1});
    (*registry)->Lookup(name, found);
    (*registry)->Orphan(node.slot, node.id);
    (*registry)->Amend(node.slot, node.id, {.owner_pid = 1});
    (*registry)->Adopt(node.slot, node.id, 1);
    (*registry)->Unregister(node.slot, node.id);
  }
  (*registry)->ForEach(Which::kAll, [](const Registration& node) { (void)node.name(); });
  (*registry)->SetUpgradeStatus({.number = 1, .text = "t"});
}

}  // namespace
}  // namespace evermap

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const evermap::Place place;
  evermap::Input input(data, size);
  std::string content;
  const uint8_t choice = input.Take<uint8_t>() % 16;
  if (choice == 15) {
    content = std::string(input.TakeRest());
  } else {
    const bool is_newest = choice < 10;
    static const std::string version_1 = evermap::LayoutV1Content();
    const evermap::layout::Geometry geometry =
        is_newest ? evermap::layout::GeometryFor(evermap::kCapacity)
                  : evermap::layout_v1::GeometryFor(evermap::kLayoutV1Capacity);
    content = is_newest ? place.valid() : version_1;
    for (size_t i = 0; i < evermap::kChangesMax && !input.empty(); ++i) {
      const auto area = input.Take<uint8_t>();
      const uint64_t offset = evermap::OffsetOf(geometry, area, input.Take<uint16_t>());
      // Small numbers and whole words.
      const uint64_t value = area >= 128 ? input.Take<uint64_t>() : input.Take<uint8_t>();
      const unsigned shift = (area >> 2) % 8 * 8;
      const uint64_t word = area >= 128 ? value : value << shift;
      std::memcpy(content.data() + offset, &word, sizeof(word));
    }
  }
  evermap::Write(place.path(), content);
  evermap::Use(place.path());
  return 0;
}
