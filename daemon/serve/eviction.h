// Eviction: which connections of a worker end so that others can be served. Unfinished requests end
// for lack of file descriptors or when their time is over, and slow readers for lack of memory.
// Nodes never do, nor do requests that wait for a list.
//
// Where the policy is: whose connection is ended first, in Victim() and NextSlowReader() of
// eviction.cc; how many are, and how old they are at least, in the constants below; when the table
// of descriptors is full, in descriptor_budget.h; how many bytes slow readers may keep, in
// kept_texts.h; and how many connections of one source may wait, so that none has to be ended for
// it, in source_limit.h.
//
// A worker that needs a descriptor may have nothing to evict while other workers have all: they may
// even sleep, since the kernel has woken this one for the new connection. AskOthers() wakes them,
// and each evicts some of its own (EvictForOthers()).
//
// Thread safety: an Eviction belongs to one worker; workers meet in Shared::room_requests.
#ifndef EVERMAP_DAEMON_SERVE_EVICTION_H_
#define EVERMAP_DAEMON_SERVE_EVICTION_H_

#include <cstdint>

#include "daemon/loop/loop.h"
#include "daemon/serve/descriptor_budget.h"
#include "daemon/serve/exchange.h"
#include "daemon/serve/kept_texts.h"
#include "daemon/serve/shared.h"
#include "registry/counters.h"

namespace evermap {

// A request that has made no progress for less than this is not evicted: the rest of it is probably
// on its way. It is a few ticks of MonotonicCoarseMs().
inline constexpr int64_t kEvictionAgeMinMs = 12;
// Evictions for a new connection that finds the table of descriptors full: two for one, so that the
// spare descriptors become free again.
inline constexpr uint32_t kEvictionsPerConnection = 2;
// Evictions when accept(2) has failed for lack of a descriptor, in each worker that makes room:
// then the spare ones are gone as well.
inline constexpr uint32_t kEvictionsPerFailedAccept = kDescriptorsForRequests;

class Eviction {
 public:
  // `own_loop` is the loop of this worker, which AskOthers() need not wake.
  Eviction(const Loop& own_loop, Shared& shared, Exchange& exchange, WorkerStatistics& statistics);

  // Ends `count` of the requests and replies that are unfinished, or as many of them as are old
  // enough, and returns how many it ended. Their descriptors are free after the next turn
  // of the loop.
  uint32_t Evict(uint32_t count);
  // Ends what has not made progress within -packet_timeout.
  void EndOverdue(int64_t now_ms);

  // Asks all other workers to evict.
  void AskOthers();
  // Evicts if another worker has asked since the last call, and returns whether one has.
  bool EvictForOthers();

  // Ends the readers that have waited longest until the texts that are left fit into
  // kSlowTextsSizeMax, or no reader is left.
  void EvictSlowReaders(const KeptTexts& texts);

 private:
  const Loop& own_loop_;
  Shared& shared_;
  Exchange& exchange_;
  WorkerStatistics& statistics_;
  uint32_t room_requests_seen_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_EVICTION_H_
