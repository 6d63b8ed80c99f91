// Histories of what several writers and readers did to one registry at once, and a check that each
// can be explained: INV-1 to INV-3 and INV-5 (layout.h), by threads, and by processes that are
// killed at random instants.
//
// Every operation is noted with the time before and after it. For each name the checker then looks
// for an order of all operations on it that keeps to these times (an operation that ended before
// another began comes before it) and in which each result is what a registry without any
// concurrency would have given: one winner, found from its registration until its end, by nobody
// after. The search is exact: it carries along all states that the operations so far can have led
// to (G. Lowe, "Testing for linearizability", 2017). An operation whose process was killed has
// happened as a whole or not at all, and not after its process was waited for. A refusal
// always names the registration that has the name.
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
namespace {

using Outcome = RegisterResult::Outcome;

// Hardly fewer records than names, so that records are recycled all the time.
constexpr uint32_t kNames = 24;
constexpr uint32_t kBusyNames = 3;  // of which most operations are about
constexpr uint32_t kCapacity = 16;
constexpr uint32_t kActors = 5;
constexpr uint32_t kOpsMax = 200'000;       // of one actor
constexpr uint32_t kOpsOfVictimMax = 1000;  // after which it waits to be killed
constexpr uint32_t kOpsOfStepMax = 4;
constexpr int kWaitsMax = 1000;  // for other writers, of up to kClaimPatienceMs each

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Now and then a name that does not fit into its record.
std::string NameOf(uint32_t name) {
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

// All that a registration says follows from its token.
std::string ExtraOf(uint64_t token) {
  return std::string(token % 7 == 0 ? 900 : token % 50, static_cast<char>('a' + token % 26));
}

class Actor {
 public:
  // `first_token` is not 0; others' tokens are further away than an actor has operations.
  Actor(Registry& registry, Log& log, uint64_t first_token)
      : registry_(registry), log_(log), token_(first_token), random_(first_token) {}

  void Step() {
    ASSERT_LE(log_.size.load() + kOpsOfStepMax, kOpsMax);
    const uint32_t name = Random(4) != 0 ? Random(kBusyNames) : Random(kNames);
    const uint32_t choice = Random(8);
    if (choice < 4) {
      Register(name);
      return;
    }
    Registration found;
    if (!Lookup(name, found) || choice < 6) return;
    // Whoever made it, and even if its process is dead.
    if (choice == 6 || Random(4) == 0) {
      Change(Kind::kUnregister, name, found);
    } else {
      Change(Kind::kOrphan, name, found);
      Change(Kind::kAdopt, name, found);
    }
  }

 private:
  uint32_t Random(uint32_t below) { return static_cast<uint32_t>(random_() % below); }

  Op& Begin(Kind kind, uint32_t name, uint64_t token) {
    Op& op = log_.ops[log_.size.load()];
    op = Op();
    op.kind = kind;
    op.name = static_cast<uint8_t>(name);
    op.token = token;
    op.begin_ns = NowNs();
    log_.size.fetch_add(1);
    return op;
  }
  void End(Op& op) {
    op.end_ns = NowNs();
    std::atomic_signal_fence(std::memory_order_seq_cst);
    op.ended = true;
  }

  void Register(uint32_t name) {
    const uint64_t token = token_++;
    const uint16_t number = static_cast<uint16_t>(token);
    const std::string text = NameOf(name);
    const std::string extra = ExtraOf(token);
    Op& op = Begin(Kind::kRegister, name, token);
    const NodeRecord node{.name = text,
                          .extra = extra,
                          .port = number,
                          .highest_version = number,
                          .lowest_version = number,
                          .listener_cookie = token,
                          .owner_pid = static_cast<uint32_t>(token)};
    RegisterResult made = registry_.Register(node);
    // Another writer is at the record. It goes on, or dies.
    for (int i = 0; made.outcome == Outcome::kTaken && made.id == 0 && i < kWaitsMax; ++i) {
      registry_.AwaitClaimant(made.slot);
      made = registry_.Register(node);
    }
    op.result = made.outcome == Outcome::kRegistered;
    op.taken = made.outcome == Outcome::kTaken;
    op.id = made.id;
    op.creation = made.creation;
    End(op);
    if (!op.result || Random(4) == 0) return;
    Registration own;
    own.slot = made.slot;
    own.id = made.id;
    own.listener_cookie = token;
    Change(Kind::kUnregister, name, own);
  }

  bool Lookup(uint32_t name, Registration& found) {
    const std::string text = NameOf(name);
    Op& op = Begin(Kind::kLookup, name, 0);
    op.result = registry_.Lookup(text, found);
    if (op.result) {
      op.token = found.listener_cookie;
      op.id = found.id;
      op.creation = found.creation;
    }
    End(op);
    if (!op.result) return false;
    const uint16_t number = static_cast<uint16_t>(op.token);
    if (found.name() != text || found.port != number || found.highest_version != number ||
        found.lowest_version != number || found.owner_pid != static_cast<uint32_t>(op.token) ||
        found.extra() != ExtraOf(op.token)) {
      log_.torn.fetch_add(1);
    }
    return true;
  }

  void Change(Kind kind, uint32_t name, const Registration& of) {
    Op& op = Begin(kind, name, of.listener_cookie);
    op.id = of.id;
    switch (kind) {
      case Kind::kUnregister:
        op.result = registry_.Unregister(of.slot, of.id);
        break;
      case Kind::kOrphan:
        op.result = registry_.Orphan(of.slot, of.id);
        break;
      default:
        op.result = registry_.Adopt(of.slot, of.id, of.id);
    }
    End(op);
  }

  Registry& registry_;
  Log& log_;
  uint64_t token_;
  std::mt19937_64 random_;
};

std::string Text(const Op& op) {
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

class RegistryHistoryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = absl::StrCat(directory_, "/registry");
    void* memory = mmap(nullptr, sizeof(Logs), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    logs_ = static_cast<Logs*>(memory);
    registry_ = Open();
    ASSERT_NE(registry_, nullptr);
  }
  void TearDown() override {
    munmap(logs_, sizeof(Logs));
    for (const char* name : {"/registry", "/registry.lock"}) {
      unlink(absl::StrCat(directory_, name).c_str());
    }
    EXPECT_EQ(rmdir(directory_), 0);
  }

  std::unique_ptr<Registry> Open() const {
    auto registry = Registry::Open({.path = path_, .capacity = kCapacity});
    EXPECT_TRUE(registry.ok()) << registry.status();
    return registry.ok() ? *std::move(registry) : nullptr;
  }

  void ForgetAll() {
    registry_->ForEach([&](const Registration& node) {
      if (node.state != RegistrationState::kRemembered) registry_->Unregister(node.slot, node.id);
    });
    EXPECT_EQ(registry_->live_count(), 0u);
  }

  uint64_t NextToken() { return ++actors_ << 20; }

  using Logs = std::array<Log, kActors>;
  char directory_[32] = "/dev/shm/registry-test-XXXXXX";
  std::string path_;
  Logs* logs_ = nullptr;  // all zero is empty
  std::unique_ptr<Registry> registry_;
  History history_;
  uint64_t actors_ = 0;
};

TEST_F(RegistryHistoryTest, TheCheckerSeesWhatIsWrong) {
  const auto op = [](Kind kind, uint64_t token, bool result, int64_t begin_ns, int64_t end_ns) {
    Op made;
    made.kind = kind;
    made.token = token;
    made.id = result ? token : 0;
    made.creation = static_cast<uint32_t>(token);
    made.result = result;
    made.ended = true;
    made.begin_ns = begin_ns;
    made.end_ns = end_ns;
    return made;
  };
  const Op first = op(Kind::kRegister, 1, true, 10, 20);
  const Op ends = op(Kind::kUnregister, 1, true, 40, 50);
  const auto check = [&](std::vector<Op> ops) { return Checker(std::move(ops)).Check(); };
  EXPECT_EQ(check({first, ends, op(Kind::kLookup, 1, true, 45, 60)}), "");
  EXPECT_EQ(check({first, op(Kind::kLookup, 0, false, 15, 30), ends}), "");
  // Two winners, lost, found before and after its time, an end too many, a creation twice.
  EXPECT_NE(check({first, op(Kind::kRegister, 2, true, 15, 25)}), "");
  EXPECT_NE(check({first, op(Kind::kLookup, 0, false, 25, 30), ends}), "");
  EXPECT_NE(check({first, ends, op(Kind::kLookup, 1, true, 1, 5)}), "");
  EXPECT_NE(check({first, ends, op(Kind::kLookup, 1, true, 51, 60)}), "");
  EXPECT_NE(check({first, ends, op(Kind::kUnregister, 1, true, 41, 60)}), "");
  Op again = op(Kind::kRegister, 2, true, 60, 70);
  EXPECT_EQ(check({first, ends, again}), "");
  again.creation = first.creation;
  EXPECT_NE(check({first, ends, again}), "");
  // Found, not found and found again, all after one began and before the next.
  EXPECT_NE(check({op(Kind::kRegister, 1, true, 10, 90), op(Kind::kLookup, 1, true, 20, 30),
                   op(Kind::kLookup, 0, false, 40, 50)}),
            "");
  // Refused because of who has the name, of nobody, and of who had it.
  Op refused = op(Kind::kRegister, 2, false, 25, 30);
  refused.taken = true;
  refused.id = first.id;
  EXPECT_EQ(check({first, refused}), "");
  refused.id = 0;
  EXPECT_NE(check({first, refused}), "");
  refused.id = first.id;
  refused.begin_ns = 55;
  refused.end_ns = 60;
  EXPECT_NE(check({first, ends, refused}), "");
  // A killed one has happened or not, but not both and not later.
  Op killed = op(Kind::kRegister, 3, false, 10, 20);
  killed.ended = false;
  EXPECT_EQ(check({killed, op(Kind::kLookup, 0, false, 30, 40)}), "");
  EXPECT_EQ(check({killed, op(Kind::kLookup, 3, true, 30, 40)}), "");
  EXPECT_NE(
      check({killed, op(Kind::kLookup, 0, false, 30, 40), op(Kind::kLookup, 3, true, 50, 60)}), "");
}

TEST_F(RegistryHistoryTest, Inv1AndInv2AndInv5ThreadsOfOneProcess) {
  const int steps = std::min(Scaled(50'000), static_cast<int>(kOpsMax / kOpsOfStepMax));
  std::vector<std::thread> threads;
  for (Log& log : *logs_) {
    threads.emplace_back([&, token = NextToken()] {
      Actor actor(*registry_, log, token);
      for (int i = 0; i < steps; ++i) actor.Step();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Log& log : *logs_) history_.Add(log, NowNs());
  history_.Check();
}

TEST_F(RegistryHistoryTest, Inv1ToInv3AndInv5ProcessesThatAreKilled) {
  constexpr int kKillsOfHistory = 250;
  std::array<pid_t, kActors> children = {};
  std::mt19937 random(3);
  const auto start = [&](size_t i) {
    (*logs_)[i].size = 0;
    const uint64_t token = NextToken();
    children[i] = fork();
    ASSERT_GE(children[i], 0);
    if (children[i] != 0) return;
    auto registry = Registry::Open({.path = path_});
    if (!registry.ok()) _exit(1);
    Actor actor(**registry, (*logs_)[i], token);
    while ((*logs_)[i].size.load() < kOpsOfVictimMax) actor.Step();
    while (true) pause();
  };
  const auto end = [&](size_t i) {
    kill(children[i], SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(children[i], &status, 0), children[i]);
    ASSERT_TRUE(WIFSIGNALED(status)) << "ended by itself with " << status;
    history_.Add((*logs_)[i], NowNs());
  };
  const int kills = Scaled(3000);
  uint64_t cut = 0;
  size_t latest = 0;
  for (int killed = 0; killed < kills; cut += history_.cut()) {
    history_ = History();
    for (size_t i = 0; i < kActors; ++i) ASSERT_NO_FATAL_FAILURE(start(i));
    const int rest = std::min(kills, killed + kKillsOfHistory);
    for (; killed < rest; ++killed) {
      // Often the latest, since the others may be waiting for their end.
      const size_t victim = random() % 4 != 0 ? latest : random() % kActors;
      // Some work first, then any instruction.
      const Log& log = (*logs_)[victim];
      const auto enough = static_cast<uint32_t>(random() % 100);
      while (log.size.load() < enough) {
        int status = 0;
        ASSERT_EQ(waitpid(children[victim], &status, WNOHANG), 0) << "ended with " << status;
        std::this_thread::yield();
      }
      for (volatile unsigned spin = static_cast<unsigned>(random() % 3000); spin > 0;)
        spin = spin - 1;
      ASSERT_NO_FATAL_FAILURE(end(victim));
      ASSERT_NO_FATAL_FAILURE(start(victim));
      latest = victim;
    }
    for (size_t i = 0; i < kActors; ++i) ASSERT_NO_FATAL_FAILURE(end(i));
    ASSERT_NO_FATAL_FAILURE(history_.Check());
    // The next history begins with nothing; and no record is lost for good.
    ForgetAll();
    for (uint32_t i = 0; i < kCapacity; ++i) {
      ASSERT_EQ(registry_->Register({.name = absl::StrCat("all", i)}).outcome, Outcome::kRegistered)
          << i;
    }
    ForgetAll();
  }
  // Else it has shown nothing of INV-3.
  EXPECT_GT(cut, static_cast<uint64_t>(kills) / 50);
}

}  // namespace
}  // namespace evermap
