#include "bench/load/schedule.h"

#include <cassert>

namespace evermap::bench {
namespace {

constexpr double kNanoseconds = 1e9;

}  // namespace

Schedule::Schedule(const Options& options)
    : options_(options),
      random_(options.part),
      pause_ns_(options.rate_per_s / options.parts / kNanoseconds) {
  assert(options.rate_per_s > 0 && options.burst > 0 && options.part < options.parts);
  next_ns_ = options_.arrivals == Arrivals::kPoisson ? pause_ns_(random_) : EvenNs(options_.part);
}

double Schedule::EvenNs(uint64_t number) const {
  // The product, and not a sum of pauses: the rounding error of a sum would grow.
  const auto first_of_burst = static_cast<double>(number - number % options_.burst);
  return first_of_burst * kNanoseconds / options_.rate_per_s;
}

void Schedule::Advance() {
  ++started_;
  if (options_.arrivals == Arrivals::kPoisson) {
    next_ns_ += pause_ns_(random_);
    return;
  }
  next_ns_ = EvenNs(started_ * options_.parts + options_.part);
}

}  // namespace evermap::bench
