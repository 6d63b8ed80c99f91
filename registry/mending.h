// Mending: a registry and its lock file are put back to where readers and other mappers look for them,
// while their mapper serves (INV-12).
//
//   Mending mending(claim);
//   if (mending.Begin(path).ok() && store.HoldFiles(mending.files(), {})) {
//     ... stop all who write ...
//     status = mending.Finish();
//   }
//   store.ForgetFiles(mending.outdated());
//
// The kernel names no file again that has lost its last name. So the registry is copied into a new
// file, which then takes its place: at the path, in memory, and under its descriptor's number.
//
// Invariants, since the mapper may be killed at any step:
//   1. The new lock file is locked, and a store has it, before the registry's header names it.
//   2. A store has the new file before it is the registry. Until all is in it, it is marked as
//      superseded, so that an heir that is handed both takes the old one.
//   3. The path is taken only if it is empty, or leads to a file whose header names a lock of this
//      claim.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_REGISTRY_MENDING_H_
#define EVERMAP_REGISTRY_MENDING_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "registry/base/owned_fd.h"
#include "registry/claim.h"
#include "registry/problem.h"

namespace evermap {

class WriterPlace;  // writer_place.h

class Mending {
 public:
  // `claim` outlives this.
  explicit Mending(Claim& claim);
  // Takes back what was begun and not finished; what a store holds of that is outdated().
  ~Mending();
  Mending(const Mending&) = delete;
  Mending& operator=(const Mending&) = delete;

  // Makes what is missing at `path`, which is the claim's from Finish() on. An error, one line that
  // says why: it cannot be put there, or the path is another mapper's by now (kAborted). Once.
  absl::Status Begin(const std::string& path);
  // What a store has to hold before Finish().
  std::vector<Claim::File> files() const;
  // Puts what was made in the place of what was lost. An error: readers do not find the registry, but
  // it can be used as before. REQUIRES: Begin() has succeeded; no thread and no other process uses
  // the registry for anything but reading.
  absl::Status Finish();
  // Names of the files that a store need not hold any more.
  const std::vector<std::string>& outdated() const { return outdated_; }

 private:
  Problem TakeLock();
  Problem MakeFile();

  Claim& claim_;
  std::string path_ = {};
  std::unique_ptr<WriterPlace> place_;  // in the new lock file; null: the old one stays
  OwnedFd lock_;                        // the new lock; invalid: the old one stays
  OwnedFd file_;                        // the new file of the registry; invalid: the old one stays
  bool is_opening_ = false;             // the opening lock of the old lock file is held
  std::vector<std::string> outdated_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_MENDING_H_
