// The store: who holds the mapper's sockets for the next one. systemd's file-descriptor store, or
// our keeper; both are told the same (notify.h).
//
// Nothing is ever taken out of it by name (FDSTOREREMOVE=1): both let a connection go when it hangs
// up, which it does when its node has closed it and the mapper has shut it down. So a connection is
// in the store exactly as long as somebody could still have use for it, and the names, all alike
// and short, do not exceed the 128 KiB that one variable of the environment (LISTEN_FDNAMES) may
// have.
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_CUSTODY_STORE_H_
#define EVERMAP_DAEMON_CUSTODY_STORE_H_

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// What a mapper that takes over tells a keeper, and not systemd: the file that it was started from.
inline constexpr std::string_view kProgramKey = "EVERMAP_PROGRAM";
// What a keeper says to a mapper that wants to take over, when the one before has died and another
// is about to be started.
inline constexpr std::string_view kTooLate = "EVERMAP=too late";

class Store {
 public:
  enum class Kind { kNone, kKeeper, kSystemd };

  // One that keeps nothing.
  Store() = default;
  Store(Kind kind, OwnedFd link) : kind_(kind), link_(std::move(link)) {}

  Kind kind() const { return kind_; }
  std::string_view name() const;  // "keeper", "systemd", "none"
  int link() const { return link_.get(); }

  // Has it kept; Flush() sends it.
  void Put(OwnedFd fd);
  // Sends as much as the store takes now. False when it is gone.
  bool Flush();
  // Sends all, waiting for room until `deadline`. False when it is gone.
  bool FlushPatiently(absl::Time deadline);
  // What is not sent yet: to be flushed again when link() is writable.
  absl::Span<const OwnedFd> waiting() const { return waiting_; }

  // Says that this process is the mapper. False when it is not to be.
  bool TakeOver();
  // Tells it something, for instance "READY=1"; waits for room at most kTellTimeout. False when it
  // is gone, or does not read.
  bool Tell(std::string_view text);
  static constexpr absl::Duration kTellTimeout = absl::Seconds(5);

 private:
  Kind kind_ = Kind::kNone;
  OwnedFd link_;
  std::vector<OwnedFd> waiting_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_STORE_H_
