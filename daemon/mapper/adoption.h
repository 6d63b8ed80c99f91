// Adoption: a mapper that starts takes the connections of an earlier one behind its back, while the
// workers serve already: lookups, lists, and registrations of names that nobody holds need the
// registry alone. A bounded number is taken in each turn of the main thread, so that what else
// there is to do waits for one turn at most.
//
//   Adoption adoption(...);
//   adoption.Begin(connections, link);     // before the workers serve
//   ... whenever link() is readable: adoption.OnLink() ...
//   ... on_end is called ...
//
// The connections are here already (of a predecessor, or systemd), or come through a link to the
// keeper, which sends all that it holds (process/hand_over.h). Until the end:
//
//   - custody is not complete (custody/custody.h), so a request for the name of a registration whose
//     connection has not come waits until that has come, or until the end (serve/postponed.h);
//   - nothing becomes an orphan, and no orphan is judged;
//   - no upgrade begins, and no keeper is replaced, since both hand over what is in custody.
//
// A mapper that dies before the end has lost nothing: the store has them all, as before.
//
// A predecessor goes on answering what it has accepted, and passes on the connections of nodes that it
// registers meanwhile. So there is a second end: when it says that nothing more comes. Until then a
// request for the name of such a node waits for its connection, too, and so do upgrades and keepers.
//
// Thread safety: belongs to the main thread.
// Bounds: kPerTurn connections in a turn; a keeper that sends nothing for kSilenceMaxMs is not
// waited for any longer, nor is a predecessor that leaves for kLateMaxMs.
#ifndef EVERMAP_DAEMON_MAPPER_ADOPTION_H_
#define EVERMAP_DAEMON_MAPPER_ADOPTION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "daemon/custody/custody.h"
#include "daemon/custody/notify.h"
#include "daemon/host/timers.h"
#include "daemon/mapper/restoration.h"
#include "registry/base/owned_fd.h"
#include "registry/registry.h"

namespace evermap {

class Adoption {
 public:
  // How many connections are taken in a turn: 0.2 ms.
  static constexpr size_t kPerTurn = kNotifyFdsMax;
  // How long the workers have the cores for themselves first: they answer who has waited for a
  // mapper, and there may be one core.
  static constexpr int64_t kServeFirstMs = 2;
  // How long a keeper may send nothing, though it holds more. It answers within milliseconds unless
  // it is stopped, or has no CPU.
  static constexpr int64_t kSilenceMaxMs = 5'000;
  // How long a predecessor that leaves is waited for. It answers what it has accepted within half a
  // second; one of 0.1.0 passes on its nodes 0.2 s later. One that stands still may come later, too,
  // unless an upgrade began meanwhile.
  static constexpr int64_t kLateMaxMs = 5'000;

  // All of it outlives this. `on_end` is called when all that was handed over was looked at, and when
  // nothing is passed on late any more.
  Adoption(const Registry& registry, Custody& custody, Restoration& restoration, Timers& timers,
           std::function<void()> on_end);

  // Takes over these connections, and those that come through `link`, if that is valid.
  // REQUIRES: nobody registers anything.
  void Begin(std::vector<OwnedFd> connections, OwnedFd link);
  // A predecessor leaves: AddLate() may follow until EndLate(). REQUIRES: nobody registers anything.
  void AwaitLate();
  void EndLate();
  bool is_under_way() const { return is_handed_over_ || is_late_awaited_; }
  // To be polled for reading; -1 when nothing comes any more, or is not to be taken yet: the registry
  // is read first, in a turn of its own, and the workers serve before.
  int link() const { return is_handed_over_ && turn_.is_planned() ? -1 : link_.get(); }
  // Takes what has come through the link. REQUIRES: link() >= 0.
  void OnLink();
  // Takes connections of registrations that are later than Begin(), after all others.
  void AddLate(std::vector<OwnedFd> connections);

 private:
  void Turn();
  // Takes one message of the keeper.
  void TakeMessage();
  // Of `received` more connections, or of earlier ones, so many belong to no registration: custody,
  // which counts those that it holds, awaits them no more.
  void CountLost(size_t lost, size_t received);
  void End();

  const Registry& registry_;
  Custody& custody_;
  Restoration& restoration_;
  const std::function<void()> on_end_;
  bool is_handed_over_ = false;   // the first end has not come
  bool is_late_awaited_ = false;  // the second end has not come
  bool has_read_registry_ = false;
  std::vector<OwnedFd> connections_;  // that are here and were not looked at
  std::vector<OwnedFd> late_;
  OwnedFd link_;
  Timer turn_;      // there is something to take
  Timer silence_;   // the keeper is not waited for any longer
  Timer late_end_;  // the predecessor is not waited for any longer
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_ADOPTION_H_
