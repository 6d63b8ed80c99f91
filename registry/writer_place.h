// A writer's place among those who write to one registry: its number is what claims carry (L-8).
//
// Places are single bytes of the file PATH.lock, each locked by its holder with an open file
// description lock. The kernel drops the lock when the last process that holds the description
// dies, however it dies; so a place that can be locked is the place of a dead writer. The file is a
// separate one with mode 0600 because anybody who can open a file can lock it, and the registry
// itself is readable by all.
//
// One more byte, the opening lock, is held by a process that opens the registry, from before it looks
// at the file until it is done: so creation, migration and recovery happen one at a time. Nothing on
// the request path takes it.
//
// The last byte is the mapper's (INV-11), and is locked through a description of its own: all who have
// a duplicate of that descriptor have the lock, which is free when the last of them is closed. It is
// never unlocked, since that would unlock it for all of them.
//
// Thread safety: number() and IsAlive() may be called from any number of threads once the place is
// taken; all else from one thread at a time.
#ifndef EVERMAP_REGISTRY_WRITER_PLACE_H_
#define EVERMAP_REGISTRY_WRITER_PLACE_H_

#include <cassert>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "registry/base/owned_fd.h"
#include "registry/problem.h"

namespace evermap {

// Bounded by the eight bits of a state word.
inline constexpr uint32_t kWritersMax = 256;
// How long Open() and StartOpening() wait for another process that is opening the same registry.
inline constexpr int kOpeningTimeoutMs = 10'000;

class WriterPlace {
 public:
  // Takes the opening lock of the registry at `path`, waiting for others that open it; null and a
  // `problem` (kBusy after kOpeningTimeoutMs) when it cannot be had.
  static std::unique_ptr<WriterPlace> Open(const std::string& path, Problem& problem);

  // The same in the lock file that is open as `lock_file`, whatever is at `path`.lock by now.
  static std::unique_ptr<WriterPlace> OpenIn(int lock_file, const std::string& path,
                                             Problem& problem);
  // Takes the mapper's lock in the same file: a descriptor that holds it. kHeld when another process
  // has it. REQUIRES: the opening lock is held.
  OwnedFd LockMapperByte(const std::string& path, Problem& problem) const;
  // The descriptor of the lock file, which stays the place's: for questions about the file itself.
  int lock_file() const { return fd_.get(); }

  // Takes the opening lock again, for another change of the file as a whole. One thread at a time.
  Problem StartOpening(const std::string& path);
  // Takes a free place; kBusy when there is none. REQUIRES: the opening lock is held, and no place
  // was taken yet.
  Problem Take(const std::string& path);
  // Lets others open the registry. REQUIRES: the opening lock is held.
  void FinishOpening();

  // REQUIRES: a place was taken.
  uint32_t number() const {
    assert(number_ < kWritersMax);
    return number_;
  }
  // Whether the writer in `place` lives; true for one's own. Costs one system call for another's.
  // When that fails the answer is true, as a wrong "no" would tear a record.
  bool IsAlive(uint32_t place) const;
  // Whether any place but the own one is taken.
  bool HasCompany() const;

 private:
  explicit WriterPlace(OwnedFd fd) : fd_(std::move(fd)) {}

  OwnedFd fd_;
  uint32_t number_ = kWritersMax;  // none yet
  bool is_opening_ = true;         // whether the opening lock is held
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_WRITER_PLACE_H_
