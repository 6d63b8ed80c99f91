// A closed loop of lookups (PORT2), as nodes do them: each on a connection of its own, from connect
// to the end of the reply, and every reply checked.
#ifndef EVERMAP_BENCH_LOOKUP_LOAD_H_
#define EVERMAP_BENCH_LOOKUP_LOAD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/endpoint.h"
#include "bench/latency_histogram.h"
#include "bench/node_set.h"

namespace evermap::bench {

// How a lookup ended.
enum class LookupOutcome : uint8_t {
  kCorrect,
  kUnknown,        // "not registered", of a node that is
  kWrongNode,      // another name or port than was registered
  kMalformed,      // not a reply to a lookup
  kEmpty,          // closed without a reply
  kReset,          // reset before the end of the reply
  kConnectFailed,  // no connection came about
  kTimedOut,       // nothing of the above within kLookupTimeout
};
inline constexpr size_t kLookupOutcomes = 8;
std::string_view LookupOutcomeName(LookupOutcome outcome);

inline constexpr absl::Duration kLookupTimeout = absl::Seconds(10);
// After so many failures a load ends early: against a mapper that is gone there is nothing to
// measure.
inline constexpr uint64_t kFailuresMax = 1000;
inline constexpr uint32_t kConnectionsMax = 4096;

struct LookupLoad {
  uint32_t connections = 8;  // lookups under way at any time; 1 to kConnectionsMax
  absl::Duration duration = absl::Seconds(3);
};

struct LookupResult {
  std::array<uint64_t, kLookupOutcomes> outcomes{};  // by LookupOutcome
  LatencyHistogram latencies;                        // of the correct ones, socket() to end of file
  absl::Duration elapsed;                            // until the last one ended

  uint64_t correct() const { return outcomes[0]; }
  uint64_t failed() const;
  uint64_t total() const { return correct() + failed(); }
  double PerSecond() const;
};

// Looks nodes of `nodes` up, in a random order that is the same each time, for load.duration.
// REQUIRES: `nodes` is not empty and registered at `endpoint`.
absl::StatusOr<LookupResult> RunLookups(const Endpoint& endpoint, const NodeSet& nodes,
                                        const LookupLoad& load);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOOKUP_LOAD_H_
