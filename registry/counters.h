// The counters that the workers keep in the segment, so that tools read them without asking the
// daemon, and the one table that says how each of them is called and shown.
//
// Each worker has a block of its own (WorkerStatistics), on cache lines of its own. Invariants:
//   1. A worker writes only its own block, with relaxed atomics. During an upgrade the old and the
//      new process may both add to one block, so every write of a counter is an atomic addition.
//   2. Counters only grow and survive the daemon. connections_now alone is a gauge: a copy of what
//      the worker itself counts, which it stores at its start and after each change, until its
//      mapper has a successor. So it says nothing of an earlier mapper, however that ended.
//   3. The offset of a field never changes within a layout version (layout.h), because programs of
//      different releases map the same file. A new counter takes the first word of `reserved`.
//   4. Each counter has exactly one row in kCounters. `epmdctl status`, `epmdctl top`, their JSON
//      and the exporter's metrics follow that table, so that a new counter appears in all of them.
//
// Thread safety: what is written above; the tables are constants.
//
// Depends on nothing but the standard library, as the C library is made of it too.
#ifndef EVERMAP_REGISTRY_COUNTERS_H_
#define EVERMAP_REGISTRY_COUNTERS_H_

#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace evermap {

inline constexpr uint32_t kStatisticsWorkersMax = 256;

// Latencies are counted in buckets, two to each doubling. In units of 500 ns the first ones are
//   0: below 1   1: 1   2: 2   3: 3   4: 4..5   5: 6..7   6: 8..11   7: 12..15   8: 16..23   ...
// so that their ends are 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16 us and so on, each at most 1.5 times
// (from the fourth on) the one before. The last bucket, from 393 ms on, has no end.
inline constexpr size_t kLatencyBuckets = 40;
inline constexpr uint64_t kLatencyUnitNs = 500;

constexpr size_t LatencyBucketOf(uint64_t latency_ns) {
  const uint64_t units = latency_ns / kLatencyUnitNs;
  if (units < 2) return static_cast<size_t>(units);
  const size_t doublings = static_cast<size_t>(std::bit_width(units)) - 1;
  const size_t bucket = 2 * doublings + ((units >> (doublings - 1)) & 1);
  return bucket < kLatencyBuckets ? bucket : kLatencyBuckets - 1;
}
// The first latency in nanoseconds that is too long for `bucket`.
// REQUIRES: bucket < kLatencyBuckets - 1, since the last bucket has no end.
constexpr uint64_t LatencyBucketEndNs(size_t bucket) {
  assert(bucket < kLatencyBuckets - 1);
  const size_t next = bucket + 1;
  if (next < 2) return next * kLatencyUnitNs;
  return ((2 + (next & 1)) << (next / 2 - 1)) * kLatencyUnitNs;
}
static_assert(LatencyBucketEndNs(0) == 500 && LatencyBucketEndNs(1) == 1000);
static_assert(LatencyBucketEndNs(4) == 3000 && LatencyBucketEndNs(5) == 4000);
static_assert(LatencyBucketEndNs(kLatencyBuckets - 2) == 393'216'000);

// Between 4 and 512 us, where most requests are, latencies are counted finer instead: in buckets eight
// to each doubling, each at most 1.125 times as long as the one before. In units of 500 ns:
//   0: 8   1: 9   ...   7: 15   8: 16..17   9: 18..19   ...   55: 960..1023
// Files of former layouts have what was counted there in the other buckets.
inline constexpr size_t kFineLatencyBuckets = 56;
inline constexpr uint64_t kFineLatencyBeginUnits = 8;
inline constexpr uint64_t kFineLatencyEndUnits = 1024;

constexpr bool IsFineLatency(uint64_t latency_ns) {
  const uint64_t units = latency_ns / kLatencyUnitNs;
  return units >= kFineLatencyBeginUnits && units < kFineLatencyEndUnits;
}
// REQUIRES: IsFineLatency(latency_ns).
constexpr size_t FineLatencyBucketOf(uint64_t latency_ns) {
  assert(IsFineLatency(latency_ns));
  const uint64_t units = latency_ns / kLatencyUnitNs;
  const size_t octave = static_cast<size_t>(std::bit_width(units)) - 4;
  return 8 * octave + ((units >> octave) & 7);
}
constexpr uint64_t FineLatencyBucketEndNs(size_t bucket) {
  assert(bucket < kFineLatencyBuckets);
  const size_t next = bucket + 1;
  return ((8 + next % 8) << (next / 8)) * kLatencyUnitNs;
}
static_assert(FineLatencyBucketEndNs(0) == 4'500 && FineLatencyBucketEndNs(7) == 8'000);
static_assert(FineLatencyBucketEndNs(kFineLatencyBuckets - 1) == 512'000);
static_assert(FineLatencyBucketOf(4'000) == 0 && FineLatencyBucketOf(511'999) == 55);

using Counter = std::atomic<uint64_t>;
// A relaxed addition is enough, since each worker has counters of its own.
inline void Count(Counter& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

// What one worker has counted. All zero when it has never run.
struct alignas(64) WorkerStatistics {
  Counter connections_accepted;
  Counter alive2_registered;
  Counter alive2_refused;
  Counter alive2_not_local;  // from somebody who may not register, as a rule on another host
  Counter port2_found;
  Counter port2_unknown;
  Counter names;
  Counter dump;
  Counter kill;
  Counter stop;
  Counter unregistered;
  Counter holders_found_gone;   // names freed because the holder's connection was found closed
  Counter closed_malformed;     // garbage, or an unknown request
  Counter closed_timeout;       // no complete request, or a reply not taken, within -packet_timeout
  Counter closed_evicted;       // closed to make room for newer connections
  Counter closed_source_bound;  // too many open requests from one address
  Counter refused_descriptors;  // ALIVE2 refused for lack of file descriptors
  Counter refused_registry_full;  // ALIVE2 refused because the registry has no room for the name
  Counter accept_errors;
  Counter connections_now;  // a gauge: stored by the worker of the mapper that serves
  Counter orphaned;         // registrations that lost their connection to the mapper
  Counter adopted;          // orphaned registrations that got a new connection
  Counter orphans_ended;    // orphaned registrations that were given up
  Counter stored;  // connections given to the store; a new keeper gets, and counts, all again
  // Requests that were understood, of all kinds, by the time that the worker took for them. It
  // begins when the worker looks at the first bytes that one turn of its event loop brought, which
  // may be those of another request. It ends when the reply (of a long one: its first part) has
  // been handed to the kernel, or the connection has been closed without a reply. It does not
  // contain the time that a request waits in the kernel before its turn, nor that of the network.
  Counter latency_buckets[kLatencyBuckets];  // by LatencyBucketOf(), but for those that are fine
  Counter stop_refused;                      // STOP that is not permitted
  Counter fine_latency_buckets[kFineLatencyBuckets];  // by FineLatencyBucketOf()
  // Requests of somebody who has not the right to it, and connections of somebody who may not
  // connect.
  Counter port2_refused;
  Counter names_refused;
  Counter dump_refused;
  Counter kill_refused;
  Counter closed_not_allowed;
  Counter reserved[2];  // zero, and not to be read: a later release may count in it
};
static_assert(sizeof(WorkerStatistics) == 1024);
static_assert(offsetof(WorkerStatistics, reserved) == 1008);
static_assert(sizeof(Counter) == 8 && Counter::is_always_lock_free);
static_assert(offsetof(WorkerStatistics, connections_accepted) == 0);
static_assert(offsetof(WorkerStatistics, alive2_registered) == 8);
static_assert(offsetof(WorkerStatistics, alive2_refused) == 16);
static_assert(offsetof(WorkerStatistics, alive2_not_local) == 24);
static_assert(offsetof(WorkerStatistics, port2_found) == 32);
static_assert(offsetof(WorkerStatistics, port2_unknown) == 40);
static_assert(offsetof(WorkerStatistics, names) == 48);
static_assert(offsetof(WorkerStatistics, dump) == 56);
static_assert(offsetof(WorkerStatistics, kill) == 64);
static_assert(offsetof(WorkerStatistics, stop) == 72);
static_assert(offsetof(WorkerStatistics, unregistered) == 80);
static_assert(offsetof(WorkerStatistics, holders_found_gone) == 88);
static_assert(offsetof(WorkerStatistics, closed_malformed) == 96);
static_assert(offsetof(WorkerStatistics, closed_timeout) == 104);
static_assert(offsetof(WorkerStatistics, closed_evicted) == 112);
static_assert(offsetof(WorkerStatistics, closed_source_bound) == 120);
static_assert(offsetof(WorkerStatistics, refused_descriptors) == 128);
static_assert(offsetof(WorkerStatistics, refused_registry_full) == 136);
static_assert(offsetof(WorkerStatistics, accept_errors) == 144);
static_assert(offsetof(WorkerStatistics, connections_now) == 152);
static_assert(offsetof(WorkerStatistics, orphaned) == 160);
static_assert(offsetof(WorkerStatistics, adopted) == 168);
static_assert(offsetof(WorkerStatistics, orphans_ended) == 176);
static_assert(offsetof(WorkerStatistics, stored) == 184);
static_assert(offsetof(WorkerStatistics, latency_buckets) == 192);
static_assert(offsetof(WorkerStatistics, stop_refused) == 512);
static_assert(offsetof(WorkerStatistics, fine_latency_buckets) == 520);
static_assert(offsetof(WorkerStatistics, port2_refused) == 968);
static_assert(offsetof(WorkerStatistics, names_refused) == 976);
static_assert(offsetof(WorkerStatistics, dump_refused) == 984);
static_assert(offsetof(WorkerStatistics, kill_refused) == 992);
static_assert(offsetof(WorkerStatistics, closed_not_allowed) == 1000);

// Metrics of the exporter that have the same name and differ by their labels are one family.
enum class CounterFamily : uint8_t {
  kRequests,
  kLimitRefusals,
  kUnregistered,
  kHoldersFoundGone,
  kOrphaned,
  kAdopted,
  kOrphansEnded,
  kStored,
  kConnectionsAccepted,
  kConnectionsClosed,
  kAcceptErrors,
};

struct CounterFamilyText {
  const char* metric;  // name of the Prometheus metric
  const char* help;    // its help text
};

// By CounterFamily, in the order of the exporter's page.
inline constexpr CounterFamilyText kCounterFamilies[] = {
    {"evermap_requests_total", "Requests by kind and result."},
    {"evermap_limit_refusals_total",
     "Registrations refused because a limit was reached; they are among the refused requests too."},
    {"evermap_unregistered_total", "Registrations that ended with their node's connection."},
    {"evermap_holders_found_gone_total",
     "Names given to a node that came back before the end of its last registration was noticed."},
    {"evermap_orphaned_total",
     "Registrations that lost their connection to the mapper while their node may live."},
    {"evermap_adopted_total", "Orphaned registrations whose node connected again."},
    {"evermap_orphans_ended_total", "Orphaned registrations that were given up."},
    {"evermap_connections_stored_total",
     "Connections given into the custody that outlives the mapper."},
    {"evermap_connections_accepted_total", "Connections accepted."},
    {"evermap_connections_closed_total",
     "Connections closed by the mapper without an answer, by reason."},
    {"evermap_accept_errors_total", "Connections that could not be accepted."},
};
static_assert(std::size(kCounterFamilies) == static_cast<size_t>(CounterFamily::kAcceptErrors) + 1);

struct CounterLabel {
  const char* name = nullptr;  // nullptr: no label
  const char* value = nullptr;
};
inline constexpr size_t kCounterLabelsMax = 2;

struct CounterRow {
  Counter WorkerStatistics::*counter;
  const char* field;  // name in JSON; on a terminal with spaces for underscores
  CounterFamily family;
  std::array<CounterLabel, kCounterLabelsMax> labels;  // of the metric, the used ones first

  // Requests stand by themselves in `epmdctl top`.
  constexpr bool is_request() const { return family == CounterFamily::kRequests; }
  // What it counts is something that did not work out: told first.
  constexpr bool is_error() const {
    if (family == CounterFamily::kConnectionsClosed || family == CounterFamily::kLimitRefusals ||
        family == CounterFamily::kAcceptErrors) {
      return true;
    }
    for (const CounterLabel& label : labels) {
      if (label.name == nullptr || std::string_view(label.name) != "result") continue;
      return std::string_view(label.value) == "refused" ||
             std::string_view(label.value) == "not_local";
    }
    return false;
  }
};

// In the order in which `epmdctl status` and `epmdctl top` show them: requests by kind and result,
// then what happened to connections, then what happened to registrations.
inline constexpr CounterRow kCounters[] = {
    // clang-format off
    {&WorkerStatistics::alive2_registered, "alive2_registered",
     CounterFamily::kRequests, {{{"kind", "alive2"}, {"result", "registered"}}}},
    {&WorkerStatistics::alive2_refused, "alive2_refused",
     CounterFamily::kRequests, {{{"kind", "alive2"}, {"result", "refused"}}}},
    {&WorkerStatistics::alive2_not_local, "alive2_not_local",
     CounterFamily::kRequests, {{{"kind", "alive2"}, {"result", "not_local"}}}},
    {&WorkerStatistics::port2_found, "port2_found",
     CounterFamily::kRequests, {{{"kind", "port2"}, {"result", "found"}}}},
    {&WorkerStatistics::port2_unknown, "port2_unknown",
     CounterFamily::kRequests, {{{"kind", "port2"}, {"result", "unknown"}}}},
    {&WorkerStatistics::port2_refused, "port2_refused",
     CounterFamily::kRequests, {{{"kind", "port2"}, {"result", "refused"}}}},
    {&WorkerStatistics::names, "names",
     CounterFamily::kRequests, {{{"kind", "names"}, {"result", "answered"}}}},
    {&WorkerStatistics::names_refused, "names_refused",
     CounterFamily::kRequests, {{{"kind", "names"}, {"result", "refused"}}}},
    {&WorkerStatistics::dump, "dump",
     CounterFamily::kRequests, {{{"kind", "dump"}, {"result", "answered"}}}},
    {&WorkerStatistics::dump_refused, "dump_refused",
     CounterFamily::kRequests, {{{"kind", "dump"}, {"result", "refused"}}}},
    {&WorkerStatistics::kill, "kill",
     CounterFamily::kRequests, {{{"kind", "kill"}, {"result", "answered"}}}},
    {&WorkerStatistics::kill_refused, "kill_refused",
     CounterFamily::kRequests, {{{"kind", "kill"}, {"result", "refused"}}}},
    {&WorkerStatistics::stop, "stop",
     CounterFamily::kRequests, {{{"kind", "stop"}, {"result", "answered"}}}},
    {&WorkerStatistics::stop_refused, "stop_refused",
     CounterFamily::kRequests, {{{"kind", "stop"}, {"result", "refused"}}}},
    {&WorkerStatistics::connections_accepted, "connections_accepted",
     CounterFamily::kConnectionsAccepted, {}},
    {&WorkerStatistics::closed_malformed, "closed_malformed",
     CounterFamily::kConnectionsClosed, {{{"reason", "malformed"}}}},
    {&WorkerStatistics::closed_timeout, "closed_timeout",
     CounterFamily::kConnectionsClosed, {{{"reason", "timeout"}}}},
    {&WorkerStatistics::closed_evicted, "closed_evicted",
     CounterFamily::kConnectionsClosed, {{{"reason", "evicted"}}}},
    {&WorkerStatistics::closed_source_bound, "closed_source_bound",
     CounterFamily::kConnectionsClosed, {{{"reason", "source_bound"}}}},
    {&WorkerStatistics::closed_not_allowed, "closed_not_allowed",
     CounterFamily::kConnectionsClosed, {{{"reason", "not_allowed"}}}},
    {&WorkerStatistics::refused_descriptors, "refused_descriptors",
     CounterFamily::kLimitRefusals, {{{"limit", "descriptors"}}}},
    {&WorkerStatistics::refused_registry_full, "refused_registry_full",
     CounterFamily::kLimitRefusals, {{{"limit", "registry"}}}},
    {&WorkerStatistics::accept_errors, "accept_errors",
     CounterFamily::kAcceptErrors, {}},
    {&WorkerStatistics::unregistered, "unregistered",
     CounterFamily::kUnregistered, {}},
    {&WorkerStatistics::holders_found_gone, "holders_found_gone",
     CounterFamily::kHoldersFoundGone, {}},
    {&WorkerStatistics::orphaned, "orphaned",
     CounterFamily::kOrphaned, {}},
    {&WorkerStatistics::adopted, "adopted",
     CounterFamily::kAdopted, {}},
    {&WorkerStatistics::orphans_ended, "orphans_ended",
     CounterFamily::kOrphansEnded, {}},
    {&WorkerStatistics::stored, "stored",
     CounterFamily::kStored, {}},
    // clang-format on
};

// Position of `counter` in kCounters; std::size(kCounters) when it has no row.
constexpr size_t CounterIndex(Counter WorkerStatistics::*counter) {
  size_t index = 0;
  while (index < std::size(kCounters) && kCounters[index].counter != counter) ++index;
  return index;
}

// Whether invariant 4 holds: no two rows are of the same counter, and there are as many rows as
// words in the block that are neither the gauge, nor a bucket, nor reserved.
constexpr bool EachCounterHasOneRow() {
  for (size_t i = 0; i < std::size(kCounters); ++i) {
    if (CounterIndex(kCounters[i].counter) != i) return false;
  }
  return (std::size(kCounters) + 1 + kLatencyBuckets + kFineLatencyBuckets) * sizeof(Counter) ==
         offsetof(WorkerStatistics, reserved);
}
static_assert(EachCounterHasOneRow(),
              "a field of WorkerStatistics has no row in kCounters, or two");
static_assert(
    CounterIndex(&WorkerStatistics::connections_now) == std::size(kCounters),
    "connections_now is a gauge: a sum of it means something else than that of a counter");

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_COUNTERS_H_
