#include "daemon/serve/acceptor.h"

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <utility>

#include "daemon/host/log.h"
#include "daemon/serve/counting.h"
#include "daemon/serve/descriptor_budget.h"
#include "registry/base/clock.h"
#include "registry/base/text.h"

namespace evermap {

void Acceptor::Start() {
  paused_listeners_.clear();
  for (size_t i = 0; i < shared_.listeners.size(); ++i) {
    loop_.Accept(static_cast<uint32_t>(i), shared_.listeners[i]);
  }
}

void Acceptor::Stop() {
  paused_listeners_.clear();
  loop_.StopAccepting();
}

std::optional<uint32_t> Acceptor::OnAccepted(int fd) {
  Count(statistics_.connections_accepted);
  if (!access_.Has(Right::kConnect, fd)) {
    Count(statistics_.closed_not_allowed);
    access_.LogRefusal(Right::kConnect, fd);
    close(fd);
    return std::nullopt;
  }
  // The connections that are still to be received will have descriptors, too.
  if (IsDescriptorTableFull(fd, shared_.descriptors_max - shared_.custody.awaited_descriptors())) {
    LogLimited(
        shared_.log_descriptors, Severity::kWarning,
        "all but %d of %d file descriptors are in use: requests that wait longest are ended; "
        "raise the limit (ulimit -n, LimitNOFILE=)",
        kDescriptorsSpare, shared_.descriptors_max);
    eviction_.Evict(kEvictionsPerConnection);
  }
  const std::optional<uint32_t> number = exchange_.Open(fd);
  if (number.has_value()) shared_.Delay(shared_.options.delay_accept);
  return number;
}

void Acceptor::OnAcceptFailed(uint32_t listener, int error) {
  Count(statistics_.accept_errors);
  const bool is_full = error == EMFILE || error == ENFILE;
  LogLimited(
      shared_.log_accept, Severity::kWarning, "connections cannot be accepted: %s%s",
      ErrorText(error),
      is_full ? "; raise the limit of open files (ulimit -n, LimitNOFILE=, fs.file-max)" : "");
  if (shared_.phases.current() != Phase::kServing) return;
  paused_listeners_.push_back(listener);
  // The descriptors of what is evicted are free at the next turn, so accepting resumes immediately.
  // Where nothing is old enough to be evicted, there is nothing to do but wait until it is, or
  // until other workers have evicted some of theirs.
  const bool makes_room = is_full && eviction_.Evict(kEvictionsPerFailedAccept) > 0;
  if (is_full && !makes_room) eviction_.AskOthers();
  resume_ms_ = MonotonicCoarseMs() + (makes_room ? 0 : kAcceptPauseMs);
}

void Acceptor::Resume(int64_t now_ms) {
  if (paused_listeners_.empty() || now_ms < resume_ms_) return;
  for (const uint32_t listener : std::exchange(paused_listeners_, {})) {
    loop_.Accept(listener, shared_.listeners[listener]);
  }
}

}  // namespace evermap
