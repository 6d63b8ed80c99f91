#include "bench/load/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>

namespace evermap::bench {

// A latency below kSubBuckets has a bucket of its own. Of a larger one the highest
// kSubBucketBits + 1 bits decide, so that a bucket is at most 1/kSubBuckets of its latency wide.
size_t LatencyHistogram::BucketOf(uint64_t latency_ns) {
  if (latency_ns < kSubBuckets) return static_cast<size_t>(latency_ns);
  const auto exponent = static_cast<uint32_t>(std::bit_width(latency_ns)) - 1;
  if (exponent >= kExponentMax) return kBuckets - 1;
  const uint32_t shift = exponent - kSubBucketBits;
  return (size_t{shift} + 1) * kSubBuckets +
         static_cast<size_t>((latency_ns >> shift) - kSubBuckets);
}

uint64_t LatencyHistogram::LargestIn(size_t bucket) {
  if (bucket < kSubBuckets) return bucket;
  const size_t shift = bucket / kSubBuckets - 1;
  return ((uint64_t{bucket % kSubBuckets} + kSubBuckets + 1) << shift) - 1;
}

void LatencyHistogram::Add(uint64_t latency_ns) {
  ++buckets_[BucketOf(latency_ns)];
  ++count_;
  max_ns_ = std::max(max_ns_, latency_ns);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) buckets_[bucket] += other.buckets_[bucket];
  count_ += other.count_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

std::vector<LatencyHistogram::Bucket> LatencyHistogram::NonEmptyBuckets() const {
  std::vector<Bucket> found;
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
    if (buckets_[bucket] > 0) {
      found.push_back({.largest_ns = LargestIn(bucket), .count = buckets_[bucket]});
    }
  }
  return found;
}

uint64_t LatencyHistogram::PercentileNs(double percent) const {
  assert(percent >= 0 && percent <= 100);
  if (count_ == 0) return 0;
  const auto rank = static_cast<uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_)));
  uint64_t below_or_in = 0;
  for (size_t bucket = 0; bucket + 1 < kBuckets; ++bucket) {
    below_or_in += buckets_[bucket];
    if (below_or_in >= std::max<uint64_t>(rank, 1)) return std::min(LargestIn(bucket), max_ns_);
  }
  return max_ns_;
}

}  // namespace evermap::bench
