#include "bench/load/schedule.h"

namespace evermap::bench {
namespace {

constexpr double kNanoseconds = 1e9;

}  // namespace

Schedule::Schedule(const Options& options)
    : options_(options),
      random_(options.part),
      pause_ns_(options.rate_per_s / options.parts / kNanoseconds) {
  next_ns_ = options_.arrivals == Arrivals::kPoisson
                 ? pause_ns_(random_)
                 : options_.part * kNanoseconds / options_.rate_per_s;
}

void Schedule::Advance() {
  ++started_;
  if (options_.arrivals == Arrivals::kPoisson) {
    next_ns_ += pause_ns_(random_);
    return;
  }
  // Not a sum, whose error would grow.
  const auto number = static_cast<double>(started_ * options_.parts + options_.part);
  next_ns_ = number * kNanoseconds / options_.rate_per_s;
}

}  // namespace evermap::bench
