// What a load asks, and whether the replies are right.
//
//   Traffic traffic(nodes, {.known = 0.9, .unknown = 0.1}, {.mapper_port = 4369});
//   Asker asker(traffic, /*thread=*/0, /*slots=*/8);
//   asker.Choose(slot);
//   ... send asker.frame(slot), receive `reply` ...
//   Outcome outcome = asker.Judge(slot, reply, /*ended=*/true);
//
// Thread safety: Traffic is immutable; an Asker belongs to one thread.
#ifndef EVERMAP_BENCH_LOAD_TRAFFIC_H_
#define EVERMAP_BENCH_LOAD_TRAFFIC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "bench/load/node_set.h"
#include "bench/load/outcome.h"
#include "bench/load/request_kind.h"

namespace evermap::bench {

// Shares of the kinds of requests, relative to each other.
struct Mix {
  double known = 0;
  double unknown = 0;
  double names = 0;
  double registrations = 0;

  // By RequestKind.
  std::array<double, kRequestKinds> shares() const {
    return {known, unknown, names, registrations};
  }
};

class Traffic {
 public:
  struct Options {
    // Port that a reply to NAMES must state; 0: any, as the mapper behind a forwarded port states
    // its own.
    uint16_t mapper_port = 0;
    // Prefix of the names of nodes that come and go, and of the names that no node has.
    std::string prefix = "bench";
    // Number of names that one connection registers in turn. With 1 a name is registered again as
    // soon as its last connection has been closed, which mappers have been seen to refuse.
    uint32_t names_per_slot = 16;
  };

  // REQUIRES: `nodes` are registered and outlive this object; there are nodes if mix.known > 0; at
  // least one share is above 0.
  Traffic(const NodeSet& nodes, const Mix& mix, Options options);

  const NodeSet& nodes() const { return nodes_; }
  const Options& options() const { return options_; }

 private:
  friend class Asker;
  const NodeSet& nodes_;
  const std::array<double, kRequestKinds> shares_;
  const Options options_;
  std::vector<std::vector<std::byte>> lookups_;  // a frame for each node
  std::vector<std::byte> names_;                 // the frame of NAMES
  absl::flat_hash_map<std::string, uint16_t> ports_;
};

// The part of one thread of the load, which has `slots` requests under way at a time.
class Asker {
 public:
  // REQUIRES: `traffic` outlives this object.
  Asker(const Traffic& traffic, uint32_t thread, uint32_t slots);

  // Chooses the next request of `slot`. The choices are the same in every run, so that runs can be
  // compared.
  void Choose(size_t slot);
  RequestKind kind(size_t slot) const { return slots_[slot].kind; }
  absl::Span<const std::byte> frame(size_t slot) const { return slots_[slot].frame; }

  // Judges what `slot` has received so far; nothing while the reply is not complete.
  // `ended`: the mapper has closed the connection.
  std::optional<Outcome> Judge(size_t slot, absl::Span<const std::byte> reply, bool ended);

 private:
  struct Slot {
    RequestKind kind = RequestKind::kKnown;
    size_t node = 0;             // kKnown: index of the node that is looked up
    uint32_t turn = 0;           // kRegister: number of registrations so far
    std::vector<std::byte> own;  // bytes of `frame`, where it is made for this request
    absl::Span<const std::byte> frame;
  };

  Outcome JudgeKnown(size_t node, absl::Span<const std::byte> reply) const;
  Outcome JudgeUnknown(absl::Span<const std::byte> reply) const;
  Outcome JudgeNames(absl::Span<const std::byte> reply);
  std::optional<Outcome> JudgeRegistration(absl::Span<const std::byte> reply, bool ended) const;

  const Traffic& traffic_;
  const uint32_t thread_;
  std::minstd_rand random_;
  std::discrete_distribution<uint32_t> kind_;
  std::vector<Slot> slots_;
  uint64_t unknown_asked_ = 0;
  // The last reply to NAMES that was right. An equal one need not be decoded, which saves the CPU
  // time that the load needs itself.
  std::string right_names_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_TRAFFIC_H_
