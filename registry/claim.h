// A mapper's claim to its registry: that no other mapper has it (INV-11), and that it is the file
// which was handed over, whatever became of its path (INV-12).
//
//   absl::StatusOr<std::unique_ptr<Claim>> claim = Claim::Make(options, std::move(handed));
//   for (const Claim::File& file : (*claim)->files()) store.Keep(file.name, file.fd);
//   serve((*claim)->registry());
//
// The lock and the registry are descriptors. Whoever keeps things for the next mapper keeps these
// two first; whoever gets them has the registry. Who was handed neither takes the lock of the file
// beside the path, or touches nothing.
//
// All is decided under the opening lock (writer_place.h), and the path is opened after the mapper's
// lock is held: what was opened before might not be there any more.
//
// Thread safety: belongs to the main thread; the registry itself has no such limit (registry.h).
#ifndef EVERMAP_REGISTRY_CLAIM_H_
#define EVERMAP_REGISTRY_CLAIM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"
#include "registry/registry.h"

namespace evermap {

// Whether `fd` may be one of the files that a claim consists of.
bool IsFileOfClaim(int fd);

class Claim {
 public:
  struct Options {
    std::string path;
    uint32_t capacity = kRegistryCapacityDefault;  // as Registry::Options
    uint16_t port = 0;                             // of the mapper
    // A predecessor hands over to this process, and has its writer's place meanwhile.
    bool has_predecessor = false;
    // Whether that predecessor is still there; asked when the opening lock is held, since the mapper
    // that is started after its death waits for that lock, and then serves.
    std::function<bool()> predecessor_lives = [] { return true; };
    // A registry whose mapper is gone and served another network namespace or port is taken all the
    // same, and its names are remembered, as after a reboot: a container that is started again has
    // another namespace and the same path. Else it is left alone.
    bool takes_foreign = false;
  };
  // What a store has to hold, and its name there.
  struct File {
    std::string name;
    int fd = -1;  // the claim's
  };

  // `handed`: the files that were handed over, in any order. Errors are those of Registry::Open(),
  // and kAborted: another mapper has the registry, or it belongs to another network namespace or
  // port; nothing was touched then. Each message is one line that says what to do.
  static absl::StatusOr<std::unique_ptr<Claim>> Make(const Options& options,
                                                     std::vector<OwnedFd> handed);
  // A registry that is a file without a name, for where there is no place for one: `reason`. Readers
  // do not find it. Everything else works.
  static absl::StatusOr<std::unique_ptr<Claim>> MakeUnnamed(const Options& options);
  // Whether Make() would build another file, so that a predecessor must not write meanwhile. Takes
  // nothing from `handed`.
  static absl::StatusOr<bool> MustBeAtRest(const Options& options,
                                           const std::vector<OwnedFd>& handed);

  ~Claim();
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  Registry& registry() { return *registry_; }
  // The lock, then the registry.
  std::vector<File> files() const;
  // Names of files that were handed over and are not the registry's any more.
  const std::vector<std::string>& outdated() const { return outdated_; }
  // Whether all of files() were handed over: by the store, or by a predecessor that has told the store to
  // hold them before.
  bool was_handed_over() const { return was_handed_over_; }
  const std::string& path() const { return path_; }
  // Whether the registry has ever had a path, unlike one of MakeUnnamed().
  bool was_published() const { return was_published_; }
  // Whether the path and that of the lock lead to these files, so that readers find the registry.
  bool IsPublished() const;

 private:
  Claim(std::string path, OwnedFd lock, std::vector<std::string> outdated,
        std::unique_ptr<Registry> registry)
      : path_(std::move(path)),
        lock_(std::move(lock)),
        outdated_(std::move(outdated)),
        registry_(std::move(registry)) {}

  friend class Mending;  // mending.h

  std::string path_;
  bool was_published_ = true;
  bool was_handed_over_ = false;
  OwnedFd lock_;
  const std::vector<std::string> outdated_;
  const std::unique_ptr<Registry> registry_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_CLAIM_H_
