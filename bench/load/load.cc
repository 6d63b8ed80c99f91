#include "bench/load/load.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "bench/measure/child_process.h"
#include "registry/base/clock.h"

namespace evermap::bench {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(200);

absl::Status Check(const LoadOptions& options) {
  if (options.connections < 1 || options.connections > kConnectionsMax) {
    return absl::InvalidArgumentError(absl::StrCat("connections: 1 to ", kConnectionsMax));
  }
  if (options.threads < 1 || options.threads > kThreadsMax) {
    return absl::InvalidArgumentError(absl::StrCat("threads: 1 to ", kThreadsMax));
  }
  if (options.rate_per_s < 0 || options.duration <= absl::ZeroDuration() ||
      options.warm_up < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("rate and times must not be negative");
  }
  if (options.burst < 1 || options.burst > options.connections) {
    return absl::InvalidArgumentError("burst: 1 to the number of connections");
  }
  if (options.sources.count < 1 || options.sources.count > SourceAddresses::kCountMax) {
    return absl::InvalidArgumentError(absl::StrCat("sources: 1 to ", SourceAddresses::kCountMax));
  }
  return absl::OkStatus();
}

// A load that runs.
class Load {
 public:
  Load(const Endpoint& endpoint, const Traffic& traffic, const LoadOptions& options)
      : endpoint_(endpoint), traffic_(traffic), options_(options) {}

  absl::StatusOr<LoadResult> Run() {
    begin_ns_ = MonotonicNs();
    measure_ns_ = begin_ns_ + absl::ToInt64Nanoseconds(options_.warm_up);
    MakeThreads();
    shared_.gap.Start(measure_ns_);
    absl::Status status = RunThreads();
    for (const absl::Status& thread_status : statuses_) status.Update(thread_status);
    if (!status.ok()) return status;
    return Collect();
  }

 private:
  void MakeThreads() {
    const uint32_t count = std::min(options_.threads, options_.connections);
    for (uint32_t i = 0; i < count; ++i) {
      LoadThread::Options thread{
          .number = i,
          // The first threads take the connections that are left over by the division.
          .connections = options_.connections / count + (i < options_.connections % count ? 1 : 0),
          .begin_ns = begin_ns_,
          .measure_ns = measure_ns_,
          .end_ns = measure_ns_ + absl::ToInt64Nanoseconds(options_.duration),
          .timeout_ns = absl::ToInt64Nanoseconds(options_.timeout),
          .sources = options_.sources,
          .wrong_max = options_.wrong_max,
          .is_storm = options_.is_storm,
          .interval = Timeline::IntervalFor(options_.warm_up + options_.duration),
      };
      if (options_.rate_per_s > 0) {
        thread.schedule = Schedule::Options{.rate_per_s = options_.rate_per_s,
                                            .arrivals = options_.arrivals,
                                            .burst = options_.burst,
                                            .part = i,
                                            .parts = count};
      }
      threads_.push_back(std::make_unique<LoadThread>(endpoint_, traffic_, thread, shared_));
    }
  }

  absl::Status RunThreads() {
    statuses_.resize(threads_.size());
    {
      const absl::MutexLock lock(&mutex_);
      running_ = threads_.size();
    }
    std::vector<std::thread> running;
    const absl::Cleanup join = [&] {
      for (std::thread& thread : running) thread.join();
    };
    for (size_t i = 0; i < threads_.size(); ++i) {
      running.emplace_back([this, i] {
        statuses_[i] = options_.cores.empty()
                           ? absl::OkStatus()
                           : PinToCore(options_.cores[i % options_.cores.size()]);
        if (statuses_[i].ok()) statuses_[i] = threads_[i]->Run();
        const absl::MutexLock lock(&mutex_);
        --running_;
      });
    }
    absl::Status status = Watch();
    if (!status.ok()) shared_.stop = true;
    return status;
  }

  // Reads what the server uses, before and after the measurement, and returns when the threads are
  // done.
  absl::Status Watch() {
    if (!WaitUntil(measure_ns_) && options_.on_measuring) options_.on_measuring();
    ServerCost cost;
    const uint64_t before = shared_.correct + shared_.wrong;
    ProcessUsage usage;
    if (options_.server_pid != 0) {
      absl::StatusOr<ProcessUsage> read = ReadProcessTree(options_.server_pid);
      if (!read.ok()) return read.status();
      usage = *read;
    }
    WaitUntil(INT64_MAX);
    if (options_.server_pid == 0) return absl::OkStatus();
    const absl::StatusOr<ProcessUsage> at_end = ReadProcessTree(options_.server_pid);
    if (!at_end.ok()) return at_end.status();
    const auto grown = [](uint64_t from, uint64_t to) { return to > from ? to - from : 0; };
    cost.requests = shared_.correct + shared_.wrong - before;
    cost.cpu_ns = grown(usage.cpu_ns, at_end->cpu_ns);
    cost.voluntary_switches = grown(usage.voluntary_switches, at_end->voluntary_switches);
    cost.involuntary_switches = grown(usage.involuntary_switches, at_end->involuntary_switches);
    cost.at_end = *at_end;
    cost_ = cost;
    return absl::OkStatus();
  }

  // Waits until `end_ns` or until the threads are done, and reports the progress meanwhile. Returns
  // whether the threads are done.
  bool WaitUntil(int64_t end_ns) {
    const auto is_done = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return running_ == 0; };
    while (true) {
      absl::Duration pause = kProgressInterval;
      if (end_ns != INT64_MAX) {
        pause = std::min(pause, absl::Nanoseconds(end_ns - MonotonicNs()));
        if (pause <= absl::ZeroDuration()) return false;
      } else if (!options_.on_progress) {
        pause = absl::InfiniteDuration();
      }
      const absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&is_done), pause)) return true;
      if (options_.on_progress) {
        options_.on_progress({.elapsed = absl::Nanoseconds(MonotonicNs() - begin_ns_),
                              .whole = options_.warm_up + options_.duration,
                              .correct = shared_.correct,
                              .wrong = shared_.wrong});
      }
    }
  }

  LoadResult Collect() {
    LoadResult result;
    result.timeline = Timeline(Timeline::IntervalFor(options_.warm_up + options_.duration));
    int64_t last_ns = measure_ns_;
    for (const std::unique_ptr<LoadThread>& thread : threads_) {
      result.outcomes.Merge(thread->outcomes());
      for (size_t i = 0; i < kRequestKinds; ++i) result.kinds[i] += thread->kinds()[i];
      result.latencies.Merge(thread->latencies());
      result.lateness.Merge(thread->lateness());
      result.timeline.Merge(thread->timeline());
      last_ns = std::max(last_ns, thread->last_end_ns());
    }
    result.elapsed = absl::Nanoseconds(last_ns - measure_ns_);
    // Without a reply after the failure the gap lasts until the end of the load.
    if (result.outcomes.wrong() > 0) shared_.gap.NoteReply(MonotonicNs());
    result.gap = shared_.gap.gap();
    result.begin_ns = begin_ns_;
    result.server = cost_;
    result.threads = std::move(threads_);
    return result;
  }

  const Endpoint& endpoint_;
  const Traffic& traffic_;
  const LoadOptions& options_;
  LoadShared shared_;
  int64_t begin_ns_ = 0;
  int64_t measure_ns_ = 0;
  std::vector<std::unique_ptr<LoadThread>> threads_;
  std::vector<absl::Status> statuses_;
  absl::Mutex mutex_;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<ServerCost> cost_;
};

}  // namespace

double LoadResult::PerSecond() const {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(latencies.count()) / seconds : 0;
}

absl::StatusOr<LoadResult> RunLoad(const Endpoint& endpoint, const Traffic& traffic,
                                   const LoadOptions& options) {
  if (absl::Status status = Check(options); !status.ok()) return status;
  return Load(endpoint, traffic, options).Run();
}

}  // namespace evermap::bench
