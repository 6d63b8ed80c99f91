#include "daemon/names/orphans.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <optional>

#include "absl/time/time.h"
#include "daemon/host/log.h"
#include "daemon/host/loopback_probe.h"
#include "registry/counters.h"
#include "registry/reader.h"

namespace evermap {

Life LifeSigns::Of(const Registration& orphan) {
  if (orphan.listener_cookie == 0 || !listeners_.ok()) return Life::kUnknown;
  if (listeners_->Has(orphan.listener_cookie)) return Life::kAlive;
  if (!once_more_.has_value()) once_more_ = ReadListeners();
  if (!once_more_->ok()) return Life::kUnknown;
  if ((*once_more_)->Has(orphan.listener_cookie)) return Life::kAlive;
  return IsReached(orphan) ? Life::kAlive : Life::kGone;
}

bool LifeSigns::IsReached(const Registration& orphan) {
  sockaddr_storage loopback4 = {};
  loopback4.ss_family = AF_INET;
  reinterpret_cast<sockaddr_in&>(loopback4).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_storage loopback6 = {};
  loopback6.ss_family = AF_INET6;
  reinterpret_cast<sockaddr_in6&>(loopback6).sin6_addr = in6addr_loopback;
  for (const sockaddr_storage& loopback : {loopback4, loopback6}) {
    const std::optional<TcpListener> listener = query_.ListenerFor(loopback, orphan.port);
    if (listener.has_value() && listener->cookie == orphan.listener_cookie) return true;
  }
  return false;
}

void Orphans::Judge() {
  if (orphans_.empty()) return;
  LifeSigns signs;
  const uint64_t now_ns = registry_.view().SteadyNs();
  const auto grace_ns = static_cast<uint64_t>(absl::ToInt64Nanoseconds(grace_));
  int probes_left = kProbesMax;
  // Who was not tried for want of a turn is tried first the next time.
  size_t untried = orphans_.size();
  Registration found;
  size_t kept = 0;
  for (size_t i = 0; i < orphans_.size(); ++i) {
    const RegistrationRef orphan = orphans_[i];
    if (!registry_.ReadSlot(orphan.slot, found) || found.id != orphan.id ||
        found.state != RegistrationState::kOrphaned) {
      continue;
    }
    const Life life = signs.Of(found);
    const bool has_grace = now_ns < found.departure + grace_ns;
    bool stays = life == Life::kAlive || (life == Life::kUnknown && has_grace);
    if (!stays && !signs.are_told()) {
      if (probes_left == 0) untried = std::min(untried, kept);
      const bool may_be_asked_again = now_ns < found.departure + 2 * grace_ns;
      stays = MayListen(found, may_be_asked_again, probes_left);
    }
    if (stays) {
      orphans_[kept++] = orphan;
      continue;
    }
    if (!registry_.Unregister(orphan.slot, orphan.id)) continue;
    Count(registry_.statistics(0).orphans_ended);
    Log(Severity::kNotice, "unregistered %s, which lost its connection: %s", Escaped(found.name()),
        life == Life::kGone ? "its node does not listen any more"
                            : "it did not come back in time (-orphan_grace)");
  }
  orphans_.resize(kept);
  if (untried < kept) {
    std::rotate(orphans_.begin(), orphans_.begin() + static_cast<ptrdiff_t>(untried),
                orphans_.end());
  }
}

bool Orphans::MayListen(const Registration& orphan, bool may_be_asked_again, int& probes_left) {
  if (probes_left == 0) return true;
  --probes_left;
  const ProbeResult result = ProbeLoopback(orphan.port);
  return result == ProbeResult::kAccepted ||
         (result == ProbeResult::kUnknown && may_be_asked_again);
}

}  // namespace evermap
