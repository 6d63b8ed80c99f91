// One thread of a load: its connections, and the epoll loop that serves them.
#ifndef EVERMAP_BENCH_LOAD_LOAD_THREAD_H_
#define EVERMAP_BENCH_LOAD_LOAD_THREAD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "bench/load/endpoint.h"
#include "bench/load/latency_histogram.h"
#include "bench/load/outcome.h"
#include "bench/load/request_kind.h"
#include "bench/load/schedule.h"
#include "bench/load/source_addresses.h"
#include "bench/load/timeline.h"
#include "bench/load/traffic.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

// The longest time without a correct reply. Thread-safe.
class LongestGap {
 public:
  struct Gap {
    int64_t begin_ns = 0;  // of the last correct reply before it; monotonic
    int64_t end_ns = 0;
    int64_t length_ns() const { return end_ns - begin_ns; }
  };

  void Start(int64_t now_ns) { last_ns_ = now_ns; }
  void NoteReply(int64_t now_ns);
  Gap gap() const;

 private:
  std::atomic<int64_t> last_ns_ = 0;
  std::atomic<int64_t> longest_ns_ = 0;
  mutable absl::Mutex mutex_;
  Gap gap_ ABSL_GUARDED_BY(mutex_);
};

// What the threads of a load share.
struct LoadShared {
  std::atomic<uint64_t> correct = 0;
  std::atomic<uint64_t> wrong = 0;
  std::atomic<bool> stop = false;
  LongestGap gap;
};

class LoadThread {
 public:
  struct Options {
    uint32_t number = 0;
    uint32_t connections = 1;
    std::optional<Schedule::Options> schedule = std::nullopt;  // open loop, if any
    int64_t begin_ns = 0;                                      // monotonic
    int64_t measure_ns = 0;  // requests that are meant to start before are not counted
    int64_t end_ns = 0;      // no request is meant to start from here on
    int64_t timeout_ns = 0;  // of a request
    SourceAddresses::Options sources = {};
    uint64_t wrong_max = 0;  // wrong replies after which the load ends early
    // Each connection makes one request, and no more; what it registers lasts until this object is
    // destroyed.
    bool is_storm = false;
    absl::Duration interval = absl::Milliseconds(10);  // of the timeline
  };

  // REQUIRES: all arguments outlive this object.
  LoadThread(const Endpoint& endpoint, const Traffic& traffic, const Options& options,
             LoadShared& shared);

  // Makes all requests in the calling thread, and returns when the last one has ended.
  absl::Status Run();

  const OutcomeCounts& outcomes() const { return outcomes_; }
  const std::array<uint64_t, kRequestKinds>& kinds() const { return kinds_; }
  // Latencies of the correct replies, from socket() (in an open loop: from the intended start) to
  // the end.
  const LatencyHistogram& latencies() const { return latencies_; }
  // By how much the requests of an open loop started late, for lack of a free connection or of CPU
  // time. Large values say that the load, not the server, was at its limit.
  const LatencyHistogram& lateness() const { return lateness_; }
  const Timeline& timeline() const { return timeline_; }
  int64_t last_end_ns() const { return last_end_ns_; }

 private:
  struct Slot {
    OwnedFd connection;
    size_t sent = 0;
    size_t received = 0;
    int64_t started_ns = 0;   // socket()
    int64_t intended_ns = 0;  // what the latency is counted from
    bool waits_for_send = false;
    std::vector<std::byte> reply;
  };
  struct Resting {
    size_t slot;
    int64_t until_ns;
  };

  // Waits for at most `pause_ns`, and ends the requests that are answered.
  absl::Status WaitForEvents(int64_t pause_ns);
  // Time until the next request is due, at most kWaitMaxNs.
  int64_t PauseNs(int64_t now_ns) const;

  // Starts the requests that are due now.
  void StartDue(int64_t now_ns);
  // Starts requests in `slot` until one has to be waited for, or until none may be started.
  void StartNext(size_t slot, int64_t now_ns);
  // The next four return how the request ended; nothing while it goes on.
  std::optional<Outcome> Start(Slot& slot, size_t number);
  std::optional<Outcome> Continue(Slot& slot, size_t number);
  std::optional<Outcome> Receive(Slot& slot, size_t number);
  std::optional<Outcome> Send(Slot& slot, size_t number);
  bool Watch(const Slot& slot, size_t number, uint32_t events, int operation);
  void End(size_t number, Outcome outcome, int64_t now_ns);
  void EndOverdue(int64_t now_ns);
  void CountNotStarted();

  bool MayStart(int64_t now_ns) const;
  // Whether a slot makes its next request when one has ended, and not by a schedule.
  bool GoesOn() const { return !schedule_.has_value() && !options_.is_storm; }

  const Endpoint& endpoint_;
  const Options options_;
  LoadShared& shared_;
  Asker asker_;
  SourceAddresses sources_;
  std::optional<Schedule> schedule_;
  std::vector<Slot> slots_;
  std::vector<size_t> free_;      // open loop: slots with nothing to do
  std::vector<Resting> resting_;  // closed loop: slots that wait before they try again
  std::vector<OwnedFd> held_;
  OwnedFd epoll_;
  uint32_t under_way_ = 0;
  uint64_t started_ = 0;
  int64_t scanned_ns_ = 0;

  OutcomeCounts outcomes_;
  std::array<uint64_t, kRequestKinds> kinds_{};
  LatencyHistogram latencies_;
  LatencyHistogram lateness_;
  Timeline timeline_;
  int64_t last_end_ns_ = 0;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_LOAD_THREAD_H_
