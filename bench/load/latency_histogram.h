// Latencies of any number of requests in a fixed amount of memory, good to 0.8 %.
//
//   LatencyHistogram latencies;
//   latencies.Add(23'500);
//   printf("%.1f us\n", static_cast<double>(latencies.PercentileNs(99.9)) / 1000);
//
// Buckets are linear within each power of two, kSubBuckets to each: 1/128 is the error of 0.8 %.
// Not thread-safe.
#ifndef EVERMAP_BENCH_LOAD_LATENCY_HISTOGRAM_H_
#define EVERMAP_BENCH_LOAD_LATENCY_HISTOGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace evermap::bench {

// A latency in microseconds, as all tables show it.
inline double Us(uint64_t ns) { return static_cast<double>(ns) / 1000; }

class LatencyHistogram {
 public:
  void Add(uint64_t latency_ns);
  // Adds all that `other` has counted.
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  uint64_t max_ns() const { return max_ns_; }  // exact
  // The smallest latency that `percent` of all latencies do not exceed, rounded up to the end of
  // its bucket; 0 when there are none. REQUIRES: 0 <= percent <= 100.
  uint64_t PercentileNs(double percent) const;

  // A bucket that is not empty; NonEmptyBuckets() has them in rising order.
  struct Bucket {
    uint64_t largest_ns;  // the largest latency that is counted in it
    uint64_t count;
  };
  std::vector<Bucket> NonEmptyBuckets() const;

 private:
  static constexpr uint32_t kSubBucketBits = 7;
  static constexpr uint32_t kSubBuckets = 1u << kSubBucketBits;
  // Latencies from 2^40 ns, which is 18 minutes, are all counted in the last bucket.
  static constexpr uint32_t kExponentMax = 40;
  static constexpr size_t kBuckets = (kExponentMax - kSubBucketBits + 1) * size_t{kSubBuckets};

  static size_t BucketOf(uint64_t latency_ns);
  static uint64_t LargestIn(size_t bucket);

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t max_ns_ = 0;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_LATENCY_HISTOGRAM_H_
