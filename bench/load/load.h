// A load: requests made by threads for some time, as a closed or an open loop, each on a connection
// of its own and each reply checked.
//
//   absl::StatusOr<LoadResult> result =
//       RunLoad(endpoint, traffic, {.connections = 8, .duration = absl::Seconds(3)});
//   result->latencies.PercentileNs(99.9);
#ifndef EVERMAP_BENCH_LOAD_LOAD_H_
#define EVERMAP_BENCH_LOAD_LOAD_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/endpoint.h"
#include "bench/load/latency_histogram.h"
#include "bench/load/load_thread.h"
#include "bench/load/outcome.h"
#include "bench/load/request_kind.h"
#include "bench/load/schedule.h"
#include "bench/load/source_addresses.h"
#include "bench/load/timeline.h"
#include "bench/load/traffic.h"
#include "bench/measure/process_usage.h"

namespace evermap::bench {

inline constexpr uint32_t kConnectionsMax = 100'000;
inline constexpr uint32_t kThreadsMax = 256;

// The state of a load that runs.
struct LoadProgress {
  absl::Duration elapsed;
  absl::Duration whole;
  uint64_t correct = 0;
  uint64_t wrong = 0;
};

struct LoadOptions {
  uint32_t connections = 8;  // requests under way at a time, of all threads; 1 to kConnectionsMax
  uint32_t threads = 1;      // 1 to kThreadsMax; not more than connections are used
  std::vector<int> cores;    // thread i keeps to core cores[i % size]; empty: to none
  double rate_per_s = 0;     // 0: closed loop
  Arrivals arrivals = Arrivals::kEven;
  uint32_t burst = 1;  // open loop: requests that start together; 1 to `connections`
  absl::Duration warm_up = absl::ZeroDuration();  // before `duration`, and not measured
  absl::Duration duration = absl::Seconds(3);
  absl::Duration timeout = absl::Seconds(10);  // of a request
  SourceAddresses::Options sources;
  // Wrong replies after which the load ends early, since there is nothing to measure against a
  // mapper that is gone.
  uint64_t wrong_max = 1000;
  // Each connection makes one request, so that there are `connections` in all. Registrations last
  // until the result is destroyed.
  bool is_storm = false;
  pid_t server_pid = 0;  // not 0: measure what this process and its descendants use
  // Called in the calling thread, several times a second.
  std::function<void(const LoadProgress&)> on_progress;
  // Called in the calling thread when the measurement begins.
  std::function<void()> on_measuring;
};

// What the server used while the load was measured, and its state at the end.
struct ServerCost {
  uint64_t cpu_ns = 0;
  uint64_t voluntary_switches = 0;
  uint64_t involuntary_switches = 0;
  uint64_t requests = 0;  // requests in the same time
  ProcessUsage at_end;

  double CpuUsPerRequest() const { return PerRequest(cpu_ns) / 1000; }
  double PerRequest(uint64_t value) const {
    return requests > 0 ? static_cast<double>(value) / static_cast<double>(requests) : 0;
  }
};

struct LoadResult {
  // Outcomes of the requests that were meant to start while the load was measured. Wrong replies of
  // the warm-up are counted too, so that no error goes unseen.
  OutcomeCounts outcomes;
  std::array<uint64_t, kRequestKinds> kinds{};  // by RequestKind
  LatencyHistogram latencies;                   // of the correct ones
  LatencyHistogram lateness;                    // open loop: see LoadThread
  Timeline timeline{absl::Milliseconds(10)};    // warm-up included
  absl::Duration elapsed;                       // from the beginning of the measurement to the last
                                                // correct reply
  LongestGap::Gap gap;
  int64_t begin_ns = 0;  // monotonic; of the warm-up, and of the timeline
  std::optional<ServerCost> server;
  std::vector<std::unique_ptr<LoadThread>> threads;  // keep what a storm registered

  double PerSecond() const;
};

// kInvalidArgument when an option is out of its bounds.
absl::StatusOr<LoadResult> RunLoad(const Endpoint& endpoint, const Traffic& traffic,
                                   const LoadOptions& options);

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_LOAD_H_
