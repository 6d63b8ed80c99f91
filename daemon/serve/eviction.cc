#include "daemon/serve/eviction.h"

#include <atomic>
#include <utility>

#include "daemon/host/log.h"
#include "daemon/serve/counting.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

// The connection that is ended next: of the requests and replies that are unfinished, which are
// those that have a deadline, the one that has made no progress for longest; kNoConnection when
// even that has made progress after `newest_progress_ms`, or there is none.
uint32_t Victim(const Connections& connections, int64_t newest_progress_ms) {
  const uint32_t oldest = connections.first();
  if (oldest == kNoConnection || connections[oldest].progress_ms > newest_progress_ms) {
    return kNoConnection;
  }
  return oldest;
}

// The reader that has waited longest, of the connection `from` and those with later deadlines;
// kNoConnection when there is none.
uint32_t NextSlowReader(const Connections& connections, uint32_t from) {
  while (from != kNoConnection && connections[from].state != Connection::State::kWriting) {
    from = connections[from].later;
  }
  return from;
}

}  // namespace

Eviction::Eviction(const Loop& own_loop, Shared& shared, Exchange& exchange,
                   WorkerStatistics& statistics)
    : own_loop_(own_loop), shared_(shared), exchange_(exchange), statistics_(statistics) {}

uint32_t Eviction::Evict(uint32_t count) {
  const int64_t newest_progress_ms = MonotonicCoarseMs() - kEvictionAgeMinMs;
  const Connections& connections = exchange_.connections();
  uint32_t evicted = 0;
  for (; evicted < count; ++evicted) {
    const uint32_t victim = Victim(connections, newest_progress_ms);
    if (victim == kNoConnection) break;
    Count(statistics_.closed_evicted);
    exchange_.EndUnfinished(victim);
  }
  return evicted;
}

void Eviction::EndOverdue(int64_t now_ms) {
  const int64_t timeout_ms = shared_.options.packet_timeout_ms;
  const Connections& connections = exchange_.connections();
  while (connections.first() != kNoConnection &&
         connections[connections.first()].progress_ms + timeout_ms <= now_ms) {
    const uint32_t number = connections.first();
    Count(statistics_.closed_timeout);
    Log(Severity::kRequests, "fd %d: closed, no complete request or reply not taken in time",
        connections[number].fd);
    exchange_.EndUnfinished(number);
  }
}

void Eviction::AskOthers() {
  shared_.room_requests.fetch_add(1, std::memory_order_relaxed);
  for (Loop* loop : shared_.loops) {
    if (loop != &own_loop_) loop->Wake();
  }
}

bool Eviction::EvictForOthers() {
  const uint32_t requests = shared_.room_requests.load(std::memory_order_relaxed);
  if (std::exchange(room_requests_seen_, requests) == requests) return false;
  Evict(kEvictionsPerFailedAccept);
  return true;
}

void Eviction::EvictSlowReaders(const KeptTexts& texts) {
  const Connections& connections = exchange_.connections();
  uint32_t from = connections.first();
  while (texts.size() > kSlowTextsSizeMax) {
    const uint32_t reader = NextSlowReader(connections, from);
    if (reader == kNoConnection) return;
    from = connections[reader].later;
    LogLimited(shared_.log_slow_reader, Severity::kWarning,
               "readers that do not take their replies are ended: they keep %d MiB",
               texts.size() >> 20);
    Count(statistics_.closed_evicted);
    exchange_.EndUnfinished(reader);
  }
}

}  // namespace evermap
