// Histories of what several writers and readers did to one registry, and the check that each can be
// explained (registry_history_test.cc).
//
// Thread safety: a Log is filled by one actor; all else is used by one thread.
#ifndef EVERMAP_REGISTRY_HISTORY_TESTING_H_
#define EVERMAP_REGISTRY_HISTORY_TESTING_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"

namespace evermap {

// Hardly fewer records than names, so that records are recycled all the time.
inline constexpr uint32_t kNames = 24;
inline constexpr uint32_t kBusyNames = 3;  // of which most operations are about
inline constexpr uint32_t kCapacity = 16;
inline constexpr uint32_t kActors = 5;
inline constexpr uint32_t kOpsMax = 200'000;       // of one actor
inline constexpr uint32_t kOpsOfVictimMax = 1000;  // after which it waits to be killed
inline constexpr uint32_t kOpsOfStepMax = 4;
inline constexpr int kWaitsMax = 1000;  // for other writers, of up to kClaimPatienceMs each

// Now and then a name that does not fit into its record.
inline std::string NameOf(uint32_t name) {
  return absl::StrCat("name", name, name % 7 == 6 ? std::string(300, 'n') : "");
}

enum class Kind : uint8_t { kRegister, kLookup, kUnregister, kOrphan, kAdopt };

// `token` is what tells registrations apart, other than their id: it is known before there is an
// id, so also of one whose process was killed.
struct Op {
  Kind kind = Kind::kLookup;
  uint8_t name = 0;
  bool ended = false;   // else its process was killed
  bool result = false;  // registered, found, or done
  bool taken = false;   // kRegister: refused because of `id`
  uint32_t creation = 0;
  uint64_t token = 0;  // of the registration that is made, found or changed
  uint64_t id = 0;
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
};

// Shared with the process that fills it.
struct Log {
  std::atomic<uint32_t> size;  // operations begun
  std::atomic<uint32_t> torn;
  std::array<Op, kOpsMax> ops;
};

inline std::string Text(const Op& op) {
  constexpr std::array<const char*, 5> kKinds = {"register", "lookup", "unregister", "orphan",
                                                 "adopt"};
  return absl::StrFormat("%s %d: token %d id %d creation %d %s, %d to %d",
                         kKinds[static_cast<size_t>(op.kind)], op.name, op.token, op.id,
                         op.creation,
                         !op.ended   ? "killed"
                         : op.result ? "yes"
                         : op.taken  ? "taken"
                                     : "no",
                         op.begin_ns, op.end_ns);
}

// The history of one name.
class Checker {
 public:
  explicit Checker(std::vector<Op> ops) : ops_(std::move(ops)) {}

  // Empty when there is an explanation; else the operation that has none, and those around it.
  std::string Check() {
    for (const Op& op : ops_) {
      const bool tells = op.kind == Kind::kLookup || (op.kind == Kind::kRegister && op.result);
      if (tells && op.id != 0) token_of_id_[op.id] = op.token;
    }
    struct Event {
      int64_t time_ns;
      bool is_end;
      size_t op;
      // Of the same time: those that may be concurrent are.
      bool operator<(const Event& other) const {
        return std::tie(time_ns, is_end, op) < std::tie(other.time_ns, other.is_end, other.op);
      }
    };
    std::vector<Event> events;
    for (size_t i = 0; i < ops_.size(); ++i) {
      events.push_back({ops_[i].begin_ns, false, i});
      events.push_back({ops_[i].end_ns, true, i});
    }
    std::sort(events.begin(), events.end());
    states_ = {State()};
    for (const Event& event : events) {
      if (!event.is_end) {
        const auto place = std::find(pending_.begin(), pending_.end(), kNone);
        if (place == pending_.end()) return "too many at once";
        *place = event.op;
        continue;
      }
      const auto place = static_cast<size_t>(std::find(pending_.begin(), pending_.end(), event.op) -
                                             pending_.begin());
      End(place);
      if (states_.empty()) return Explain(event.op);
    }
    return Creations();
  }

  size_t states_max() const { return states_max_; }

 private:
  static constexpr size_t kNone = ~size_t{0};
  struct State {
    uint64_t holder = 0;  // token
    bool orphaned = false;
    uint32_t done = 0;  // places in pending_ of operations that have taken effect
    bool operator<(const State& other) const {
      return std::tie(holder, orphaned, done) < std::tie(other.holder, other.orphaned, other.done);
    }
  };

  // Whether `op` can take effect in `state`, which it then changes.
  bool Apply(const Op& op, State& state) const {
    const bool is_holder = state.holder == op.token;
    switch (op.kind) {
      case Kind::kRegister:
        if (op.ended && !op.result) {
          // Full: may always be.
          if (!op.taken) return true;
          if (op.id == 0) return false;
          const auto token = token_of_id_.find(op.id);
          return state.holder != 0 &&
                 (token == token_of_id_.end() || token->second == state.holder);
        }
        if (state.holder != 0) return false;
        state.holder = op.token;
        state.orphaned = false;
        return true;
      case Kind::kLookup:
        return is_holder;  // or both are 0
      case Kind::kUnregister:
        if (op.ended && !op.result) return !is_holder;
        if (!is_holder) return false;
        state.holder = 0;
        return true;
      case Kind::kOrphan:
      case Kind::kAdopt: {
        // A failure may be due to an adopter that has not finished.
        if (op.ended && !op.result) return true;
        const bool orphan = op.kind == Kind::kOrphan;
        if (!is_holder || state.orphaned == orphan) return false;
        state.orphaned = orphan;
        return true;
      }
    }
    return false;
  }

  // Leaves the states in which the operation at `place` has taken effect by now; for a killed one
  // also those in which it never will.
  void End(size_t place) {
    std::vector<State> open(states_.begin(), states_.end());
    std::set<State> all = states_;
    while (!open.empty()) {
      const State from = open.back();
      open.pop_back();
      if ((from.done >> place & 1) != 0) continue;
      for (size_t i = 0; i < pending_.size(); ++i) {
        if (pending_[i] == kNone || (from.done >> i & 1) != 0) continue;
        State to = from;
        if (!Apply(ops_[pending_[i]], to)) continue;
        to.done |= 1u << i;
        if (all.insert(to).second) open.push_back(to);
      }
    }
    const bool must = ops_[pending_[place]].ended;
    states_.clear();
    for (State state : all) {
      const bool is_done = (state.done >> place & 1) != 0;
      if (must && !is_done) continue;
      state.done &= ~(1u << place);
      states_.insert(state);
    }
    states_max_ = std::max(states_max_, states_.size());
    pending_[place] = kNone;
  }

  std::string Explain(size_t op) const {
    std::string text = absl::StrCat("no order explains ", Text(ops_[op]), "\namong\n");
    for (const Op& other : ops_) {
      if (other.end_ns + 50'000 >= ops_[op].begin_ns && other.begin_ns <= ops_[op].end_ns) {
        absl::StrAppend(&text, "  ", Text(other), "\n");
      }
    }
    return text;
  }

  // INV-5.
  std::string Creations() const {
    std::vector<Op> made;
    for (const Op& op : ops_) {
      if (op.kind == Kind::kRegister && op.ended && op.result) made.push_back(op);
    }
    std::sort(made.begin(), made.end(),
              [](const Op& a, const Op& b) { return a.creation < b.creation; });
    int64_t begin_ns_max = 0;
    for (size_t i = 0; i < made.size(); ++i) {
      if (i > 0 && made[i].creation == made[i - 1].creation) {
        return absl::StrCat("one creation for two:\n  ", Text(made[i - 1]), "\n  ", Text(made[i]));
      }
      if (made[i].end_ns < begin_ns_max) return absl::StrCat("creation went back: ", Text(made[i]));
      begin_ns_max = std::max(begin_ns_max, made[i].begin_ns);
    }
    return "";
  }

  const std::vector<Op> ops_;
  std::map<uint64_t, uint64_t> token_of_id_;
  std::array<size_t, 32> pending_ = [] {
    std::array<size_t, 32> none;
    none.fill(kNone);
    return none;
  }();
  std::set<State> states_;
  size_t states_max_ = 0;
};

// A history of all names.
class History {
 public:
  // The operations of an actor that has ended, or was killed and waited for before `end_ns`.
  void Add(const Log& log, int64_t end_ns) {
    EXPECT_EQ(log.torn.load(), 0u) << "a lookup found a mixture of two registrations (INV-1)";
    const uint32_t size = log.size.load();
    for (uint32_t i = 0; i < size; ++i) {
      Op op = log.ops[i];
      if (!op.ended) {
        op.end_ns = end_ns;
        op.result = false;
        ++cut_;
      }
      ops_[op.name].push_back(op);
    }
    total_ += size;
  }

  void Check() {
    size_t states_max = 0;
    for (uint32_t name = 0; name < kNames; ++name) {
      Checker checker(ops_[name]);
      ASSERT_EQ(checker.Check(), "") << "name " << name;
      states_max = std::max(states_max, checker.states_max());
    }
    std::cout << total_ << " operations, " << cut_ << " of them cut off, at most " << states_max
              << " states at a time\n";
  }

  // Operations in the middle of which a process was killed.
  uint64_t cut() const { return cut_; }

 private:
  std::array<std::vector<Op>, kNames> ops_;
  uint64_t total_ = 0;
  uint64_t cut_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_HISTORY_TESTING_H_
