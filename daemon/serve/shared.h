// What all workers of a mapper share, and the options by which they serve.
//
// Thread safety: the const members, and the options, never change while workers serve; each of the
// others says, or its type does, how several threads use it.
#ifndef EVERMAP_DAEMON_SERVE_SHARED_H_
#define EVERMAP_DAEMON_SERVE_SHARED_H_

#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/custody/custody.h"
#include "daemon/host/address.h"
#include "daemon/host/keyed_limiter.h"
#include "daemon/host/log.h"
#include "daemon/loop/loop.h"
#include "daemon/names/disputes.h"
#include "daemon/names/reservations.h"
#include "daemon/names/rights.h"
#include "daemon/serve/notifier.h"
#include "daemon/serve/phase.h"
#include "daemon/serve/source_limit.h"
#include "registry/activity.h"
#include "registry/registry.h"

namespace evermap {

// The part of what the mapper is told (command/options.h) that workers need.
struct ServeOptions {
  uint16_t port = 0;  // that NAMES and DUMP tell
  // How long a peer may take for its request, and for its reply. A number, since each turn of a
  // loop compares it.
  int64_t packet_timeout_ms = 60'000;
  absl::Duration delay_accept = absl::ZeroDuration();
  absl::Duration delay_write = absl::ZeroDuration();
  // How long a registration waits for the end of who holds its name.
  absl::Duration name_wait = absl::ZeroDuration();
  // KILL ends the mapper while nodes are registered, too.
  bool relaxed_command_check = false;
  Rights rights = {};
};

// All that is referred to outlives the workers.
struct Shared {
  Shared(ServeOptions serve_options, Registry& open_registry, Custody& node_custody,
         SourceLimit& source_limit, const Reservations& reserved_names,
         absl::Span<const int> listening, uint32_t descriptor_limit, void (*stop)(std::string_view))
      : options(std::move(serve_options)),
        registry(open_registry),
        custody(node_custody),
        sources(source_limit),
        reservations(reserved_names),
        listeners(listening),
        descriptors_max(descriptor_limit),
        request_stop(stop),
        notifier(open_registry) {}

  // Waits for `duration` (-delay_accept, -delay_write), but not longer than until the mapper is to
  // end.
  void Delay(absl::Duration duration) const {
    if (duration > absl::ZeroDuration()) stopping.WaitForNotificationWithTimeout(duration);
  }

  // Is changed only while all workers pause.
  ServeOptions options;
  Registry& registry;
  Custody& custody;
  SourceLimit& sources;
  // Likewise.
  const Reservations& reservations;
  const absl::Span<const int> listeners;  // descriptors of the sockets to accept from
  const uint32_t descriptors_max;         // RLIMIT_NOFILE
  // Ends the mapper; may be called from any thread.
  void (*const request_stop)(std::string_view reason);

  PhaseControl phases;
  // Who changes the registry says so to it.
  Notifier notifier;
  // Another mapper serves. Is set before the phase that tells the workers to leave.
  std::atomic<bool> has_successor{false};
  // Is notified when the mapper is to end, so that Delay() returns.
  absl::Notification stopping;
  // The loops of all workers, so that each worker can wake the others. The list is complete before
  // the first worker serves.
  std::vector<Loop*> loops;
  // How often a worker has found no free descriptor and nothing of its own to evict (eviction.h).
  std::atomic<uint32_t> room_requests{0};

  // What tools are told of the last minutes; null: nothing. Is set before the workers serve.
  Activity* activity = nullptr;
  // Requests for names that others hold.
  Disputes disputes;

  // By address: what is no request, and requests that are refused.
  KeyedLimiter log_malformed;
  KeyedLimiter log_refused;
  // One limiter for each kind of line, whichever worker writes it.
  LogLimiter log_descriptors;
  LogLimiter log_registry_full;
  LogLimiter log_source;
  LogLimiter log_accept;
  LogLimiter log_slow_reader;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_SHARED_H_
