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
#include "registry/base/clock.h"
#include "registry/history_testing.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"

namespace evermap {
namespace {

using Outcome = RegisterResult::Outcome;

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
    // Registrations of all actors are changed, also of those whose process is dead.
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
    op.begin_ns = MonotonicNs();
    log_.size.fetch_add(1);
    return op;
  }
  void End(Op& op) {
    op.end_ns = MonotonicNs();
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
    registry_->ForEach(Which::kAll, [&](const Registration& node) {
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
  for (const Log& log : *logs_) history_.Add(log, MonotonicNs());
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
    history_.Add((*logs_)[i], MonotonicNs());
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
  EXPECT_GT(cut, static_cast<uint64_t>(kills) / 250);
}

}  // namespace
}  // namespace evermap
