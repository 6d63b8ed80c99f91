// When the requests of an open loop are meant to start, whatever the server does.
//
//   Schedule schedule({.rate_per_s = 1000, .part = 0, .parts = 1});
//   int64_t first_ns = schedule.NextNs();   // after the beginning of the load
//   schedule.Advance();
//
// Latencies are counted from these times, not from when a connection was free: a server that stalls
// for a second is then charged with all requests that should have been made in that second, not
// with the one that was under way ("coordinated omission"). Not thread-safe.
#ifndef EVERMAP_BENCH_LOAD_SCHEDULE_H_
#define EVERMAP_BENCH_LOAD_SCHEDULE_H_

#include <cstdint>
#include <random>

namespace evermap::bench {

enum class Arrivals : uint8_t {
  kEven,     // at equal distances
  kPoisson,  // at random distances, as requests of many independent clients arrive
};

class Schedule {
 public:
  struct Options {
    double rate_per_s = 1;  // of all parts together
    Arrivals arrivals = Arrivals::kEven;
    // Even arrivals: so many requests start together, followed by a pause, at the rate given.
    uint32_t burst = 1;
    // A load of several threads is divided among them: this is part `part` of `parts`.
    uint32_t part = 0;
    uint32_t parts = 1;
  };

  // REQUIRES: rate_per_s > 0, burst > 0, part < parts.
  explicit Schedule(const Options& options);

  // When the next request is meant to start, after the beginning of the load.
  int64_t NextNs() const { return static_cast<int64_t>(next_ns_); }
  void Advance();

 private:
  // When request `number` of all parts is meant to start. REQUIRES: even arrivals.
  double EvenNs(uint64_t number) const;

  const Options options_;
  std::mt19937_64 random_;
  std::exponential_distribution<double> pause_ns_;
  uint64_t started_ = 0;
  double next_ns_ = 0;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_SCHEDULE_H_
