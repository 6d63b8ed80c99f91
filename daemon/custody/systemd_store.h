// systemd as the store: the file-descriptor store of a service with Type=notify
// (FileDescriptorStoreMax=).
//
// It must not be given connections as fast as nodes register. For each descriptor that it takes
// systemd (252; later versions do the same) compares it with all that it holds, one system call
// each, and does nothing else meanwhile. With 3,000 nodes a few hundred registrations a second keep
// the first process of the machine busy for good, so that it starts and stops nothing any more. So
// a connection is stored when its registration has lived for a moment, which those of clients that
// register in a loop do not, and no more are stored than systemd has the time for.
#ifndef EVERMAP_DAEMON_CUSTODY_SYSTEMD_STORE_H_
#define EVERMAP_DAEMON_CUSTODY_SYSTEMD_STORE_H_

#include <string_view>
#include <utility>

#include "daemon/custody/notified_store.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class SystemdStore final : public NotifiedStore {
 public:
  // Comparisons take 1 us each (measured): together a fifth of the time of one core at most.
  static constexpr DepositQueue::Pace kPace = {.age_ms = 1000, .comparisons_per_tick = 10'000};

  // `link` is connected to $NOTIFY_SOCKET.
  explicit SystemdStore(OwnedFd link) : NotifiedStore(std::move(link)) {}

  std::string_view name() const override { return "systemd"; }
  bool outlives_mapper() const override { return true; }
  DepositQueue::Pace pace() const override { return kPace; }
  void WarnOfLoss() const override;
  // Always true: systemd starts no other mapper before this one has ended.
  bool AnnounceMapper() override;

  // systemd reads nothing more from a process that has died, so it is waited for (BARRIER=1).
  bool AwaitHeld() override;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_SYSTEMD_STORE_H_
