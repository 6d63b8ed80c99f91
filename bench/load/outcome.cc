#include "bench/load/outcome.h"

#include <numeric>

namespace evermap::bench {

std::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kCorrect:
      return "correct";
    case Outcome::kNotFound:
      return "not_found";
    case Outcome::kFound:
      return "found";
    case Outcome::kWrongNode:
      return "wrong_node";
    case Outcome::kMissingNode:
      return "missing_node";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kMalformed:
      return "malformed";
    case Outcome::kEmpty:
      return "empty";
    case Outcome::kCut:
      return "cut";
    case Outcome::kReset:
      return "reset";
    case Outcome::kConnectionRefused:
      return "connection_refused";
    case Outcome::kConnectFailed:
      return "connect_failed";
    case Outcome::kTimedOut:
      return "timed_out";
    case Outcome::kNotStarted:
      return "not_started";
  }
  return "?";
}

void OutcomeCounts::Merge(const OutcomeCounts& other) {
  for (size_t i = 0; i < kOutcomes; ++i) counts_[i] += other.counts_[i];
}

uint64_t OutcomeCounts::wrong() const {
  return std::accumulate(counts_.begin() + 1, counts_.end(), uint64_t{0});
}

}  // namespace evermap::bench
