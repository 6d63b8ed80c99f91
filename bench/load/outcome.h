// How a request can end.
#ifndef EVERMAP_BENCH_LOAD_OUTCOME_H_
#define EVERMAP_BENCH_LOAD_OUTCOME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace evermap::bench {

enum class Outcome : uint8_t {
  kCorrect,
  kNotFound,           // "not registered", for a node that is registered
  kFound,              // a node, for a name that no node has
  kWrongNode,          // another name, port, type, version or extra than was registered
  kMissingNode,        // NAMES lacks a node, or has it with another port
  kRefused,            // ALIVE2 refused
  kMalformed,          // not a reply to what was asked
  kEmpty,              // closed without a reply
  kCut,                // closed in the middle of a reply
  kReset,              // reset before the end of the reply
  kConnectionRefused,  // nobody listens
  kConnectFailed,      // no connection for another reason
  kTimedOut,           // none of the above in time
  kNotStarted,         // due in an open loop, but not started before the end of the load
};
inline constexpr size_t kOutcomes = 14;
std::string_view OutcomeName(Outcome outcome);

// Requests by how they ended.
class OutcomeCounts {
 public:
  void Add(Outcome outcome, uint64_t count = 1) { counts_[static_cast<size_t>(outcome)] += count; }
  void Merge(const OutcomeCounts& other);
  uint64_t of(Outcome outcome) const { return counts_[static_cast<size_t>(outcome)]; }
  uint64_t correct() const { return counts_[0]; }
  uint64_t wrong() const;
  uint64_t total() const { return correct() + wrong(); }

 private:
  std::array<uint64_t, kOutcomes> counts_{};
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_OUTCOME_H_
