// How a load went over time: requests and the longest latency, per interval. Not thread-safe.
#ifndef EVERMAP_BENCH_LOAD_TIMELINE_H_
#define EVERMAP_BENCH_LOAD_TIMELINE_H_

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace evermap::bench {

class Timeline {
 public:
  struct Interval {
    uint64_t correct = 0;
    uint64_t wrong = 0;
    uint64_t latency_max_ns = 0;  // of the correct ones
  };

  // A load of this length gets about 200 intervals, of 10 ms at least.
  static absl::Duration IntervalFor(absl::Duration load) {
    return std::max(absl::Milliseconds(10), load / 200);
  }

  // REQUIRES: interval > 0.
  explicit Timeline(absl::Duration interval)
      : interval_ns_(static_cast<uint64_t>(absl::ToInt64Nanoseconds(interval))) {
    assert(interval > absl::ZeroDuration());
  }

  // Counts a request that ended `at_ns` after the beginning. Requests after kIntervalsMax intervals
  // are not counted, so that a load without end needs no memory without end.
  void Add(uint64_t at_ns, bool is_correct, uint64_t latency_ns) {
    const size_t number = at_ns / interval_ns_;
    if (number >= kIntervalsMax) return;
    if (number >= intervals_.size()) intervals_.resize(number + 1);
    Interval& interval = intervals_[number];
    ++(is_correct ? interval.correct : interval.wrong);
    if (is_correct) interval.latency_max_ns = std::max(interval.latency_max_ns, latency_ns);
  }

  // REQUIRES: `other` has the same interval.
  void Merge(const Timeline& other) {
    assert(interval_ns_ == other.interval_ns_);
    intervals_.resize(std::max(intervals_.size(), other.intervals_.size()));
    for (size_t i = 0; i < other.intervals_.size(); ++i) {
      intervals_[i].correct += other.intervals_[i].correct;
      intervals_[i].wrong += other.intervals_[i].wrong;
      intervals_[i].latency_max_ns =
          std::max(intervals_[i].latency_max_ns, other.intervals_[i].latency_max_ns);
    }
  }

  uint64_t interval_ns() const { return interval_ns_; }
  const std::vector<Interval>& intervals() const { return intervals_; }

 private:
  static constexpr size_t kIntervalsMax = 100'000;
  uint64_t interval_ns_;
  std::vector<Interval> intervals_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_TIMELINE_H_
