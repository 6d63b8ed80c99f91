// Tests of the registry; their names carry the numbers of the invariants (layout.h).
#include "registry/registry.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"
#include "registry/base/path.h"
#include "registry/evermap.h"
#include "registry/layout.h"
#include "registry/reader.h"
#include "registry/registry_testing.h"
#include "registry/segment.h"
#include "registry/siphash.h"
#include "registry/status.h"
#include "registry/writer_place.h"

namespace evermap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Outcome = RegisterResult::Outcome;

class RegistryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = absl::StrCat(directory_, "/registry");
  }
  void TearDown() override {
    for (const char* name : {"/registry", "/registry.lock"}) {
      unlink(absl::StrCat(directory_, name).c_str());
    }
    EXPECT_EQ(rmdir(directory_), 0);
  }

  std::unique_ptr<Registry> Open(uint32_t capacity = 4096) {
    auto registry = Registry::Open({.path = path_, .capacity = capacity});
    EXPECT_TRUE(registry.ok()) << registry.status();
    return registry.ok() ? *std::move(registry) : nullptr;
  }

  // Opening it is refused; says why.
  std::string Refusal() {
    const auto registry = Registry::Open({.path = path_});
    EXPECT_EQ(registry.status().code(), absl::StatusCode::kFailedPrecondition);
    return std::string(registry.status().message());
  }

  char directory_[32] = "/dev/shm/registry-test-XXXXXX";
  std::string path_;
};

// Memory shared with child processes.
template <typename T>
T* SharedWithChildren() {
  void* memory =
      mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(memory, MAP_FAILED);
  return new (memory) T();
}

TEST_F(RegistryTest, WhatIsRegisteredIsFound) {
  auto registry = Open();
  for (const size_t size :
       std::initializer_list<size_t>{1, 7, 8, 9, 32, 167, 168, 169, 1019, 1020}) {
    for (const uint16_t number : std::initializer_list<uint16_t>{1, 7, 49, 50}) {
      const std::string name = absl::StrCat(std::string(size - 1, 'n'), "x");
      const std::string extra = ExtraOf(number);
      const RegisterResult result = registry->Register(NodeOf(name, number, extra));
      ASSERT_EQ(result.outcome, Outcome::kRegistered);
      Registration found;
      ASSERT_TRUE(registry->Lookup(name, found));
      EXPECT_TRUE(IsWhole(found, name));
      EXPECT_EQ(found.id, result.id);
      EXPECT_EQ(found.creation, result.creation);
      EXPECT_TRUE(registry->Unregister(result.slot, result.id));
      EXPECT_FALSE(registry->Lookup(name, found));
    }
  }
  EXPECT_EQ(registry->Register({.name = ""}).outcome, Outcome::kInvalid);
  EXPECT_EQ(registry->Register({.name = std::string(1021, 'n')}).outcome, Outcome::kInvalid);
  EXPECT_EQ(registry->Register({.name = std::string_view("a\0b", 3)}).outcome, Outcome::kInvalid);
}

TEST_F(RegistryTest, Inv4AnIdEndsItsRegistrationAndNoOther) {
  auto registry = Open();
  const RegisterResult first = registry->Register({.name = "hare"});
  EXPECT_EQ(registry->Register({.name = "hare"}).outcome, Outcome::kTaken);
  EXPECT_TRUE(registry->Unregister(first.slot, first.id));
  EXPECT_FALSE(registry->Unregister(first.slot, first.id));
  const RegisterResult second = registry->Register({.name = "hare"});
  EXPECT_NE(second.id, first.id);
  EXPECT_FALSE(registry->Unregister(first.slot, first.id));
  Registration found;
  EXPECT_TRUE(registry->Lookup("hare", found));
  EXPECT_FALSE(registry->Unregister(1u << 30, second.id));
}

TEST_F(RegistryTest, OrphansAreFoundAndAdoptedOnce) {
  auto registry = Open();
  const RegisterResult node = registry->Register({.name = "hare", .connection_cookie = 1});
  EXPECT_FALSE(registry->Adopt(node.slot, node.id, 2));
  EXPECT_TRUE(registry->Orphan(node.slot, node.id));
  EXPECT_FALSE(registry->Orphan(node.slot, node.id));
  Registration found;
  ASSERT_TRUE(registry->Lookup("hare", found));
  EXPECT_EQ(found.state, RegistrationState::kOrphaned);
  EXPECT_GT(found.since_unix_ns, 0);
  EXPECT_GE(found.left_unix_ns, found.since_unix_ns);
  const int64_t since_unix_ns = found.since_unix_ns;
  EXPECT_TRUE(registry->Adopt(node.slot, node.id, 2));
  EXPECT_FALSE(registry->Adopt(node.slot, node.id, 3));
  ASSERT_TRUE(registry->Lookup("hare", found));
  EXPECT_EQ(found.state, RegistrationState::kLive);
  EXPECT_EQ(found.connection_cookie, 2u);
  EXPECT_EQ(found.creation, node.creation);
  EXPECT_EQ(found.since_unix_ns, since_unix_ns);
  EXPECT_EQ(found.left_unix_ns, 0);
}

TEST_F(RegistryTest, AmendmentsChangeNothingElse) {
  auto registry = Open();
  const RegisterResult node =
      registry->Register({.name = "hare", .extra = "e", .port = 5, .connection_cookie = 1});
  Registration before;
  Registration after;
  for (const bool orphaned : {false, true}) {
    if (orphaned) {
      ASSERT_TRUE(registry->Orphan(node.slot, node.id));
    }
    ASSERT_TRUE(registry->Lookup("hare", before));
    const uint64_t generation = registry->generation();
    EXPECT_TRUE(registry->Amend(node.slot, node.id, {.listener_cookie = 7u + orphaned}));
    EXPECT_TRUE(registry->Amend(node.slot, node.id, {.owner_uid = 8u + orphaned}));
    EXPECT_TRUE(registry->Amend(node.slot, node.id, {.owner_pid = 9u + orphaned}));
    EXPECT_EQ(registry->generation(), generation);
    ASSERT_TRUE(registry->Lookup("hare", after));
    before.listener_cookie = 7u + orphaned;
    before.owner_uid = 8u + orphaned;
    before.owner_pid = 9u + orphaned;
    EXPECT_EQ(Describe(after), Describe(before));
  }
  // INV-4
  EXPECT_FALSE(registry->Amend(node.slot, node.id + 1, {.listener_cookie = 1}));
  EXPECT_FALSE(registry->Amend(1u << 30, node.id, {.listener_cookie = 1}));
  registry->Unregister(node.slot, node.id);
  EXPECT_FALSE(registry->Amend(node.slot, node.id, {.listener_cookie = 1}));
}

TEST_F(RegistryTest, Inv2Inv4AmendmentsOrphansAndEndsAtOnce) {
  auto registry = Open(8);
  const int rounds = Scaled(20'000);
  std::atomic<int> round{0};
  std::atomic<int> done{0};
  std::atomic<int> ended{0};
  std::atomic<int> wrong{0};
  std::vector<RegisterResult> nodes(static_cast<size_t>(rounds) + 1);
  nodes[0] = registry->Register(NodeOf("hare", 1, ExtraOf(1)));
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Registration found;
      for (int i = 0; i < rounds; ++i) {
        while (round.load() < i) std::this_thread::yield();
        const RegisterResult node = nodes[static_cast<size_t>(i)];
        if (t == 0) {
          registry->Amend(node.slot, node.id, {.listener_cookie = 3, .owner_pid = 1});
        } else if (t == 1) {
          registry->Orphan(node.slot, node.id);
          registry->Amend(node.slot, node.id, {.owner_pid = 1});
        } else if (t == 2) {
          registry->Adopt(node.slot, node.id, 1);
          if (registry->Unregister(node.slot, node.id)) ended.fetch_add(1);
        } else {
          // Found whole until somebody ends it, then never again.
          while (registry->Lookup("hare", found)) {
            if (!IsWhole(found, "hare") || found.id != node.id) wrong.fetch_add(1);
          }
        }
        if (done.fetch_add(1) + 1 != kThreads * (i + 1)) continue;
        // The last one of this round.
        if (registry->ReadSlot(node.slot, found) &&
            (found.id != node.id || found.state != RegistrationState::kRemembered)) {
          wrong.fetch_add(1);
        }
        nodes[static_cast<size_t>(i) + 1] = registry->Register(NodeOf("hare", 1, ExtraOf(1)));
        if (nodes[static_cast<size_t>(i) + 1].outcome != Outcome::kRegistered) wrong.fetch_add(1);
        round.store(i + 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(ended.load(), rounds);
}

// Moves a record's state word on, as a writer in a place that nobody has would.
void LeaveHalfDone(const std::string& path, uint32_t slot, layout::Kind kind) {
  Problem problem;
  auto segment = Segment::Map(path, SegmentAccess::kWrite, problem);
  ASSERT_NE(segment, nullptr) << problem.message;
  layout::Word& state = segment->record(slot).state;
  state.store(layout::NextState(state.load(), kind, 200));
}

TEST_F(RegistryTest, Inv3ADeadAmenderIsInNobodysWay) {
  auto registry = Open();
  Registration found;
  const auto state_of_hare = [&] {
    EXPECT_TRUE(registry->Lookup("hare", found));
    return found.state;
  };
  const RegisterResult node = registry->Register({.name = "hare"});
  // Found as it was; settled by the next who does something to it.
  LeaveHalfDone(path_, node.slot, layout::Kind::kAmending);
  EXPECT_EQ(state_of_hare(), RegistrationState::kLive);
  EXPECT_TRUE(registry->Amend(node.slot, node.id, {.listener_cookie = 7}));
  EXPECT_EQ(state_of_hare(), RegistrationState::kLive);
  LeaveHalfDone(path_, node.slot, layout::Kind::kAmending);
  EXPECT_TRUE(registry->Orphan(node.slot, node.id));
  EXPECT_EQ(state_of_hare(), RegistrationState::kOrphaned);
  EXPECT_TRUE(registry->Adopt(node.slot, node.id, 3));
  EXPECT_EQ(state_of_hare(), RegistrationState::kLive);
  // By a restart.
  LeaveHalfDone(path_, node.slot, layout::Kind::kAmending);
  registry = Open();
  EXPECT_EQ(state_of_hare(), RegistrationState::kLive);
  EXPECT_TRUE(registry->Orphan(node.slot, node.id));
  LeaveHalfDone(path_, node.slot, layout::Kind::kAdopting);
  registry = Open();
  EXPECT_EQ(state_of_hare(), RegistrationState::kOrphaned);
  // Ended all the same.
  LeaveHalfDone(path_, node.slot, layout::Kind::kAdopting);
  EXPECT_TRUE(registry->Unregister(node.slot, node.id));
  EXPECT_FALSE(registry->Lookup("hare", found));
  EXPECT_EQ(registry->Register({.name = "hare"}).creation, node.creation + 1);
}

TEST_F(RegistryTest, AStoppedAmenderIsNotWaitedForLong) {
  auto registry = Open();
  const RegisterResult node = registry->Register({.name = "hare"});
  // The other one lives, as far as anybody can tell.
  auto other = Open();
  Problem problem;
  auto segment = Segment::Map(path_, SegmentAccess::kWrite, problem);
  layout::Word& state = segment->record(node.slot).state;
  const uint64_t before = state.load();
  constexpr uint32_t kPlaceOfOther = 1;
  state.store(layout::NextState(before, layout::Kind::kAmending, kPlaceOfOther));
  EXPECT_FALSE(registry->Amend(node.slot, node.id, {.listener_cookie = 7}));
  // When it has died, things go on.
  other.reset();
  EXPECT_TRUE(registry->Amend(node.slot, node.id, {.listener_cookie = 7}));
}

MapperStatus StatusOf(uint32_t number) {
  return {.pid = number,
          .start_ticks = number,
          .started_unix_ns = number,
          .workers = number,
          .version = absl::StrCat(number),
          .loop = std::string(number % kStatusLoopSizeMax, 'l'),
          .custody = std::string(number % kStatusCustodySizeMax, 'c'),
          .descriptors_max = number};
}
bool IsWhole(const MapperStatus& status) {
  const MapperStatus expected = StatusOf(status.pid);
  return status.start_ticks == expected.start_ticks &&
         status.started_unix_ns == expected.started_unix_ns && status.workers == expected.workers &&
         status.version == expected.version && status.loop == expected.loop &&
         status.custody == expected.custody && status.descriptors_max == expected.descriptors_max;
}

TEST_F(RegistryTest, StatusIsKeptAndCut) {
  using Upgrade = UpgradeStatus::Outcome;
  auto registry = Open();
  EXPECT_EQ(registry->mapper_status().pid, 0u);
  EXPECT_EQ(registry->mapper_status().version, "");
  EXPECT_EQ(registry->upgrade_status().outcome, Upgrade::kNone);
  registry->SetMapperStatus(StatusOf(77));
  registry->SetUpgradeStatus({5, 6, Upgrade::kFailed, "a\nb\033[31m" + std::string(300, 'x')});
  registry.reset();
  std::string error;
  const auto reader = Reader::Open(path_, error);
  ASSERT_NE(reader, nullptr) << error;
  EXPECT_EQ(reader->view().mapper_status().pid, 77u);
  EXPECT_TRUE(IsWhole(reader->view().mapper_status()));
  const UpgradeStatus upgrade = reader->view().upgrade_status();
  EXPECT_EQ(upgrade.number, 5u);
  EXPECT_EQ(upgrade.unix_ns, 6);
  EXPECT_EQ(upgrade.outcome, Upgrade::kFailed);
  EXPECT_EQ(upgrade.text, ("a?b?[31m" + std::string(300, 'x')).substr(0, 255));
}

TEST_F(RegistryTest, Inv3StatusSurvivesItsWriters) {
  auto registry = Open();
  registry->SetMapperStatus(StatusOf(1));
  std::mt19937 random(3);
  const int kills = Scaled(500);
  uint32_t last = 0;
  for (int i = 0; i < kills; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto victim = Registry::Open({.path = path_});
      if (!victim.ok()) _exit(1);
      for (uint32_t number = last + 1;; ++number) (*victim)->SetMapperStatus(StatusOf(number));
    }
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::microseconds(1000 + random() % 1000);
    while (std::chrono::steady_clock::now() < deadline) {
      // Never torn, and never back to an earlier one.
      const MapperStatus status = registry->mapper_status();
      ASSERT_TRUE(IsWhole(status));
      ASSERT_GE(status.pid, last);
      last = status.pid;
    }
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const MapperStatus left = registry->mapper_status();
    ASSERT_TRUE(IsWhole(left));
    ASSERT_GE(left.pid, last);
    last = left.pid;
    registry->SetMapperStatus(StatusOf(++last));
    ASSERT_EQ(registry->mapper_status().pid, last);
  }
}

TEST(StatusTest, ARunningProcessIsKnownByItsStart) {
  const uint64_t own_ticks = ProcessStartTicks(getpid());
  EXPECT_GT(own_ticks, 0u);
  MapperStatus status{.pid = static_cast<uint32_t>(getpid()), .start_ticks = own_ticks};
  EXPECT_TRUE(IsRunning(status));
  status.start_ticks = own_ticks + 1;
  EXPECT_FALSE(IsRunning(status));
  EXPECT_FALSE(IsRunning({}));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    pause();
    _exit(0);
  }
  status = {.pid = static_cast<uint32_t>(child), .start_ticks = ProcessStartTicks(child)};
  EXPECT_TRUE(IsRunning(status));
  kill(child, SIGKILL);
  siginfo_t ended;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(IsRunning(status)) << "a zombie";
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(IsRunning(status));
  EXPECT_EQ(ProcessStartTicks(child), 0u);
  EXPECT_EQ(ProcessStartTicks(-1), 0u);
}

TEST_F(RegistryTest, Inv5CreationsNeverComeBack) {
  std::set<uint32_t> seen;
  for (int i = 0; i < 10; ++i) {
    auto registry = Open(8);  // over restarts
    for (int round = 0; round < 50; ++round) {
      const RegisterResult node = registry->Register({.name = "hare"});
      ASSERT_EQ(node.outcome, Outcome::kRegistered);
      EXPECT_GE(node.creation, kCreationMin);
      EXPECT_TRUE(seen.insert(node.creation).second);
      registry->Unregister(node.slot, node.id);
    }
    // Others push it out of the registry's memory.
    for (int other = 0; other < 20; ++other) {
      const std::string name = absl::StrCat("other", i, "x", other);
      const RegisterResult node = registry->Register({.name = name});
      ASSERT_EQ(node.outcome, Outcome::kRegistered);
      registry->Unregister(node.slot, node.id);
    }
  }
}

TEST_F(RegistryTest, AFullRegistryKeepsWhatItHasAndRecyclesTheOldest) {
  auto registry = Open(64);
  std::vector<RegisterResult> nodes;
  for (int i = 0; i < 64; ++i) {
    nodes.push_back(registry->Register({.name = absl::StrCat("node", i)}));
    ASSERT_EQ(nodes.back().outcome, Outcome::kRegistered);
  }
  EXPECT_EQ(registry->live_count(), 64u);
  EXPECT_EQ(registry->Register({.name = "more"}).outcome, Outcome::kFull);
  EXPECT_EQ(registry->Register({.name = "more"}).outcome, Outcome::kFull);
  for (const size_t i : std::initializer_list<size_t>{7, 3, 5})
    registry->Unregister(nodes[i].slot, nodes[i].id);
  EXPECT_EQ(registry->Register({.name = "more"}).outcome, Outcome::kRegistered);
  std::set<std::string> remembered;
  registry->ForEach([&](const Registration& node) {
    if (node.state == RegistrationState::kRemembered) remembered.emplace(node.name());
  });
  EXPECT_EQ(remembered, (std::set<std::string>{"node3", "node5"}));
  EXPECT_EQ(registry->live_count(), 62u);
}

TEST_F(RegistryTest, GenerationChangesWithEveryChange) {
  auto registry = Open();
  uint64_t before = registry->generation();
  const auto changed = [&] { return std::exchange(before, registry->generation()) != before; };
  const RegisterResult node = registry->Register({.name = "hare"});
  EXPECT_TRUE(changed());
  registry->Register({.name = "hare"});
  EXPECT_FALSE(changed());
  registry->Orphan(node.slot, node.id);
  EXPECT_TRUE(changed());
  registry->Unregister(node.slot, node.id);
  EXPECT_TRUE(changed());
}

TEST_F(RegistryTest, Inv1LookupsNeverMixTwoRegistrations) {
  auto registry = Open(64);
  constexpr int kNames = 4;
  std::atomic<bool> done{false};
  std::atomic<uint64_t> found_count{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      Registration found;
      while (!done.load(std::memory_order_relaxed)) {
        const std::string name = absl::StrCat("name", random() % kNames);
        if (!registry->Lookup(name, found)) continue;
        found_count.fetch_add(1, std::memory_order_relaxed);
        if (!IsWhole(found, name)) {
          ADD_FAILURE() << "torn: " << found.name() << " port " << found.port;
          return;
        }
      }
    });
  }
  const int rounds = Scaled(200'000);
  std::mt19937 random(99);
  // On a busy machine the readers may get their turn late.
  for (int i = 0; i < rounds || (found_count.load() == 0 && i < 100 * rounds); ++i) {
    // A hundred others, so that records are recycled under the readers.
    const bool read_one = random() % 2 == 0;
    const std::string name =
        read_one ? absl::StrCat("name", random() % kNames) : absl::StrCat("o", random() % 100);
    const uint16_t number = static_cast<uint16_t>(random() % 60000);
    const std::string extra = ExtraOf(number);
    const RegisterResult node = registry->Register(NodeOf(name, number, extra));
    ASSERT_EQ(node.outcome, Outcome::kRegistered);
    ASSERT_TRUE(registry->Unregister(node.slot, node.id));
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(found_count.load(), 0u);
}

// Contends for names: whoever registers one marks it as its own, and finds no other mark there.
constexpr int kContendedNames = 3;
struct Contention {
  std::array<std::atomic<uint32_t>, kContendedNames> holder;
  std::atomic<uint64_t> won;
  std::atomic<uint64_t> wrong;
};
void Contend(Registry& registry, Contention& contention, uint32_t self, int rounds) {
  std::mt19937 random(self);
  Registration found;
  for (int i = 0; i < rounds; ++i) {
    const size_t n = random() % kContendedNames;
    const std::string name = absl::StrCat("name", n);
    const uint16_t number = static_cast<uint16_t>(random() % 60000);
    const std::string extra = ExtraOf(number);
    const RegisterResult node = registry.Register(NodeOf(name, number, extra));
    if (node.outcome != Outcome::kRegistered) {
      if (node.outcome != Outcome::kTaken) contention.wrong.fetch_add(1);
      continue;
    }
    contention.won.fetch_add(1);
    uint32_t nobody = 0;
    if (!contention.holder[n].compare_exchange_strong(nobody, self)) contention.wrong.fetch_add(1);
    // Until it unregisters, everybody finds this one.
    if (!registry.Lookup(name, found) || found.id != node.id || !IsWhole(found, name)) {
      contention.wrong.fetch_add(1);
    }
    contention.holder[n].store(0);
    if (!registry.Unregister(node.slot, node.id)) contention.wrong.fetch_add(1);
  }
}

TEST_F(RegistryTest, Inv2OneWinnerAmongThreads) {
  auto registry = Open(8);
  auto* contention = SharedWithChildren<Contention>();
  std::vector<std::thread> threads;
  for (uint32_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] { Contend(*registry, *contention, t, Scaled(50'000)); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(contention->wrong.load(), 0u);
  EXPECT_GT(contention->won.load(), 0u);
  EXPECT_EQ(registry->live_count(), 0u);
  munmap(contention, sizeof(*contention));
}

TEST_F(RegistryTest, Inv2OneWinnerAmongProcesses) {
  auto* contention = SharedWithChildren<Contention>();
  Open(8);
  std::vector<pid_t> children;
  for (uint32_t t = 1; t <= 4; ++t) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto registry = Registry::Open({.path = path_});
      if (!registry.ok()) _exit(1);
      Contend(**registry, *contention, t, Scaled(50'000));
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(contention->wrong.load(), 0u);
  EXPECT_GT(contention->won.load(), 0u);
  EXPECT_EQ(Open()->live_count(), 0u);
  munmap(contention, sizeof(*contention));
}

TEST_F(RegistryTest, Inv3WritersMayBeKilledAnywhere) {
  // Hardly more records than names, so that recycling is interrupted too.
  auto survivor = Open(kVictimNames + 8);
  auto* log = SharedWithChildren<VictimLog>();
  log->pending = kVictimNames;
  std::mt19937 random(7);
  const int kills = Scaled(5000);
  for (int i = 0; i < kills; ++i) {
    const uint64_t before = log->operations.load();
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) RunVictim(path_, *log, static_cast<unsigned>(random()));
    // Some work first, then any instruction.
    while (log->operations.load() < before + random() % 20) {
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, WNOHANG), 0) << "victim ended with " << status;
      // The survivor's names push others out meanwhile.
      const std::string name = absl::StrCat("s", random() % 20);
      const RegisterResult node = survivor->Register({.name = name});
      if (node.outcome == Outcome::kRegistered) survivor->Unregister(node.slot, node.id);
    }
    for (volatile unsigned spin = static_cast<unsigned>(random() % 3000); spin > 0;)
      spin = spin - 1;
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "victim ended by itself with " << status;

    // Every second time a restart, else the survivor has to cope.
    if (i % 2 == 0) survivor = Open();
    ASSERT_NE(survivor, nullptr);
    Registration found;
    for (size_t n = 0; n < kVictimNames; ++n) {
      const std::string name = VictimName(n);
      const bool is_found = survivor->Lookup(name, found);
      ASSERT_TRUE(!is_found || IsWhole(found, name)) << "torn: " << name;
      const uint64_t id = log->id[n].load();
      if (log->pending.load() != n || log->keeps.load()) {
        ASSERT_EQ(is_found, id != 0) << name;
        if (is_found) {
          ASSERT_EQ(found.id, id);
          ASSERT_EQ(found.creation, log->creation[n].load());
        }
        continue;
      }
      // Either it is done or not; then it goes on from what there is.
      if (is_found) {
        ASSERT_TRUE(survivor->Unregister(found.slot, found.id));
        log->creation_last[n].store(std::max(log->creation_last[n].load(), found.creation));
      }
      log->id[n].store(0);
      // Nobody waits for the dead.
      const std::string extra = ExtraOf(1);
      const RegisterResult node = survivor->Register(NodeOf(name, 1, extra));
      ASSERT_EQ(node.outcome, Outcome::kRegistered) << name;
      ASSERT_TRUE(survivor->Unregister(node.slot, node.id));
      log->creation_last[n].store(std::max(log->creation_last[n].load(), node.creation));
    }
    log->pending.store(kVictimNames);
  }
  // No record is lost for good: all can be used at once.
  survivor = Open();
  for (size_t n = 0; n < kVictimNames; ++n) {
    if (const uint64_t id = log->id[n].load(); id != 0)
      survivor->Unregister(log->slot[n].load(), id);
  }
  for (size_t n = 0; n < kVictimNames + 8; ++n) {
    const std::string name = absl::StrCat("last", n);
    EXPECT_EQ(survivor->Register({.name = name}).outcome, Outcome::kRegistered) << n;
  }
  munmap(log, sizeof(*log));
}

// A record of the segment at `path`, to be put into a state that only a dead writer leaves.
class ForgedRecord {
 public:
  ForgedRecord(const std::string& path, uint32_t capacity, uint32_t slot) {
    const layout::Geometry geometry = layout::GeometryFor(capacity);
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    size_ = geometry.file_size;
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT_NE(base_, MAP_FAILED);
    close(fd);
    record_ = reinterpret_cast<layout::Record*>(
        static_cast<char*>(base_) + geometry.records_offset + slot * sizeof(layout::Record));
  }
  ~ForgedRecord() { munmap(base_, size_); }

  void Claim(layout::Kind kind, uint32_t owner) {
    record_->state.store(layout::NextState(record_->state.load(), kind, owner));
  }

 private:
  void* base_ = nullptr;
  size_t size_ = 0;
  layout::Record* record_ = nullptr;
};

TEST_F(RegistryTest, Inv3NobodyWaitsForADeadAdopter) {
  auto registry = Open();
  const RegisterResult node = registry->Register({.name = "hare", .connection_cookie = 1});
  ForgedRecord record(path_, 4096, node.slot);
  constexpr uint32_t kDead = 200;
  Registration found;
  // Another one can adopt it, ...
  ASSERT_TRUE(registry->Orphan(node.slot, node.id));
  record.Claim(layout::Kind::kAdopting, kDead);
  EXPECT_TRUE(registry->Lookup("hare", found));
  EXPECT_TRUE(registry->Adopt(node.slot, node.id, 2));
  ASSERT_TRUE(registry->Lookup("hare", found));
  EXPECT_EQ(found.state, RegistrationState::kLive);
  EXPECT_EQ(found.connection_cookie, 2u);
  // ... or end it, and the name is free.
  ASSERT_TRUE(registry->Orphan(node.slot, node.id));
  record.Claim(layout::Kind::kAdopting, kDead);
  EXPECT_TRUE(registry->Unregister(node.slot, node.id));
  EXPECT_EQ(registry->Register({.name = "hare"}).outcome, Outcome::kRegistered);
}

// Whoever opens the registry gets the first free place, which is that of the dead adopter. Its
// claims must not become the new holder's, whoever else changes the records meanwhile.
TEST_F(RegistryTest, Inv3ClaimsAreSettledBeforeTheirPlaceIsGivenAway) {
  auto registry = Open();
  constexpr uint32_t kFirstFree = 1;
  constexpr size_t kNames = 200;
  const int rounds = Scaled(300);
  for (int round = 0; round < rounds; ++round) {
    std::vector<RegisterResult> nodes;
    for (size_t n = 0; n < kNames; ++n) {
      nodes.push_back(registry->Register({.name = absl::StrCat("node", n)}));
      ASSERT_EQ(nodes.back().outcome, Outcome::kRegistered);
      ASSERT_TRUE(registry->Orphan(nodes.back().slot, nodes.back().id));
      ForgedRecord(path_, 4096, nodes.back().slot).Claim(layout::Kind::kAdopting, kFirstFree);
    }
    std::thread ends([&] {
      // The other way round, so that it meets the settling.
      for (size_t n = kNames; n-- > 0;) {
        registry->Unregister(nodes[n].slot, nodes[n].id);
        for (volatile int spin = round % 50 * 10; spin > 0;) spin = spin - 1;
      }
    });
    const auto other = Open();
    ends.join();
    // While the other one lives.
    for (size_t n = 0; n < kNames; ++n) {
      const RegisterResult again = registry->Register({.name = absl::StrCat("node", n)});
      ASSERT_EQ(again.outcome, Outcome::kRegistered) << "round " << round << " name " << n;
      registry->Unregister(again.slot, again.id);
    }
  }
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  chmod(path.c_str(), 0644);
}

// Uses whatever is at `path` in every way.
void UseEverything(const std::string& path) {
  std::string error;
  const std::unique_ptr<Reader> reader = Reader::Open(path, error);
  Registration found;
  if (reader != nullptr) {
    for (int i = 0; i < 40; ++i) reader->view().Lookup(absl::StrCat("node", i), found);
    for (uint32_t slot = 0; slot < 70; ++slot) reader->view().ReadSlot(slot, found);
    reader->view().CountLive();
    reader->view().mapper_status();
    reader->view().upgrade_status();
  }
  auto registry = Registry::Open({.path = path});
  if (!registry.ok()) return;
  for (int i = 0; i < 40; ++i) {
    const RegisterResult node = (*registry)->Register({.name = absl::StrCat("node", i * 2)});
    if (node.outcome == Outcome::kTaken) (*registry)->Orphan(node.slot, node.id);
    (*registry)->Amend(node.slot, node.id, {.listener_cookie = 1});
    (*registry)->Adopt(node.slot, node.id, 1);
    (*registry)->Unregister(node.slot, node.id);
  }
  (*registry)->ForEach([](const Registration&) {});
  (*registry)->live_count();
}

TEST_F(RegistryTest, Inv6DamagedSegmentsHarmNobody) {
  {
    auto registry = Open(48);
    for (int i = 0; i < 40; ++i) {
      const std::string name = absl::StrCat("node", i);
      const std::string extra = ExtraOf(static_cast<uint64_t>(i) * 7);
      const RegisterResult node = registry->Register(NodeOf(name, 1, extra));
      if (i % 3 == 0) registry->Unregister(node.slot, node.id);
      if (i % 3 == 1) registry->Orphan(node.slot, node.id);
    }
  }
  const std::string intact = ReadFile(path_);
  const layout::Geometry geometry = layout::GeometryFor(48);
  std::mt19937 random(5);
  const int rounds = Scaled(2000);
  for (int i = 0; i < rounds; ++i) {
    std::string damaged = intact;
    // Where it hurts most of the time: header, heads and records.
    const uint64_t begin = i % 4 == 0   ? 0
                           : i % 4 == 1 ? geometry.buckets_offset
                                        : geometry.records_offset;
    const uint64_t size = i % 4 == 0   ? sizeof(layout::Header)
                          : i % 4 == 1 ? geometry.buckets * 8
                                       : 40 * layout::kRecordSize;
    const auto flips = 1 + random() % 20;
    for (uint64_t flip = 0; flip < flips; ++flip) {
      char& byte = damaged[begin + random() % size];
      byte = static_cast<char>(byte ^ (1 << random() % 8));
    }
    if (i % 50 == 0) damaged.resize(random() % intact.size());
    WriteFile(path_, damaged);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(60);
      UseEverything(path_);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0) << "round " << i;
  }
}

TEST_F(RegistryTest, Inv6AndInv7RefusedSegmentsAreLeftAlone) {
  Open(16);
  const std::string intact = ReadFile(path_);
  const auto refused = [&](const std::string& content, const std::string& reason) {
    WriteFile(path_, content);
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(reason), HasSubstr(path_)));
    EXPECT_EQ(ReadFile(path_), content);
  };
  std::string content = intact;
  content[0] = 'X';
  refused(content, "magic");
  content = intact;
  content[8] = 99;
  refused(content, "newer");
  content = intact;
  content[24] = 17;
  refused(content, "checksum");
  refused(intact.substr(0, intact.size() - 4096), "truncated");
  refused(intact.substr(0, 100), "truncated");
  WriteFile(path_, intact);
  chmod(path_.c_str(), 0666);
  EXPECT_FALSE(Registry::Open({.path = path_}).ok());
  chmod(path_.c_str(), 0644);
  EXPECT_NE(Open(), nullptr);
}

// The checksum keeps accidents out; whoever writes a file with a right one is not trusted either.
TEST_F(RegistryTest, Inv6SizesThatDoNotFitAreRefused) {
  Open(16);
  const std::string intact = ReadFile(path_);
  const auto with = [&](size_t offset, uint64_t value) {
    std::string content = intact;
    memcpy(content.data() + offset, &value, sizeof(value));
    const uint64_t fingerprint =
        SipHash<2, 4>({0x6576657267726565, 0x6e2d6d6170706572},
                      {content.data(), layout::kDescription.header.fingerprint});
    memcpy(content.data() + offsetof(layout::Header, fingerprint), &fingerprint,
           sizeof(fingerprint));
    return content;
  };
  const auto refused = [&](const std::string& content, const std::string& reason) {
    WriteFile(path_, content);
    const std::string message = Refusal();
    EXPECT_THAT(message, HasSubstr(reason));
    std::string error;
    EXPECT_EQ(Reader::Open(path_, error), nullptr);
    EXPECT_EQ(error, message);
  };
  constexpr size_t kCapacity = offsetof(layout::Header, capacity_and_buckets);
  refused(with(kCapacity, layout::Halves(0, 64)), "impossible capacity");
  refused(with(kCapacity, layout::Halves(kRegistryCapacityMax + 1, 64)), "impossible capacity");
  for (const size_t word :
       {offsetof(layout::Header, file_size), kCapacity,
        offsetof(layout::Header, record_and_overflow_size),
        offsetof(layout::Header, statistics_offset), offsetof(layout::Header, buckets_offset),
        offsetof(layout::Header, records_offset), offsetof(layout::Header, overflow_offset)}) {
    uint64_t value = 0;
    memcpy(&value, intact.data() + word, sizeof(value));
    // Of the two halves of the capacity, the buckets.
    refused(with(word, value + (uint64_t{1} << 32)), "do not fit together");
  }
  constexpr size_t kVersion = offsetof(layout::Header, version_and_header_size);
  refused(with(kVersion, layout::Halves(layout::kLayoutVersion, 1)), "do not fit together");
  WriteFile(path_, intact);
  EXPECT_NE(Open(), nullptr);
}

TEST_F(RegistryTest, Inv6AReaderAsksWhoseTheFileIs) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  constexpr uid_t kAlice = 64101;
  Open(16);
  std::string error;
  const auto is_read = [&] { return Reader::Open(path_, error) != nullptr; };
  EXPECT_TRUE(is_read()) << error;
  ASSERT_EQ(chown(path_.c_str(), kAlice, kAlice), 0);
  EXPECT_FALSE(is_read());
  EXPECT_NE(error.find("belongs to user 64101"), std::string::npos) << error;
  // Alice's, in a directory that is all hers.
  ASSERT_EQ(chown(directory_, kAlice, kAlice), 0);
  ASSERT_EQ(chmod(directory_, 0755), 0);
  EXPECT_TRUE(is_read()) << error;
  ASSERT_EQ(chmod(directory_, 0775), 0);
  EXPECT_FALSE(is_read());
  ASSERT_EQ(chmod(directory_, 0777), 0);
  EXPECT_FALSE(is_read());
}

TEST_F(RegistryTest, AReaderMayPassThroughADirectoryThatItMayNotList) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Open(16);
  const auto is_read_by_alice = [&] {
    const pid_t child = fork();
    if (child == 0) {
      std::string error;
      _exit(setuid(64101) == 0 && Reader::Open(path_, error) != nullptr ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status == 0;
  };
  ASSERT_EQ(chmod(directory_, 0711), 0);
  EXPECT_TRUE(is_read_by_alice());
  ASSERT_EQ(chmod(directory_, 0700), 0);
  EXPECT_FALSE(is_read_by_alice());
}

TEST_F(RegistryTest, ALockThatOthersMayOpenIsRefused) {
  Open(16);
  const std::string lock = path_ + ".lock";
  const auto refused = [&](const std::string& reason) {
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(reason), HasSubstr(lock)));
  };
  for (const mode_t mode : {0660U, 0606U, 0644U}) {
    ASSERT_EQ(chmod(lock.c_str(), mode), 0);
    refused("may open");
  }
  if (geteuid() == 0) {
    ASSERT_EQ(chmod(lock.c_str(), 0600), 0);
    ASSERT_EQ(chown(lock.c_str(), 64101, 64101), 0);
    refused("may open");
  }
  unlink(lock.c_str());
  ASSERT_EQ(symlink("/dev/null", lock.c_str()), 0);
  refused("cannot be opened");
  unlink(lock.c_str());
  ASSERT_EQ(mkfifo(lock.c_str(), 0600), 0);
  refused("may open");
  unlink(lock.c_str());
  EXPECT_NE(Open(), nullptr);
}

TEST_F(RegistryTest, WritersHaveAPlaceEach) {
  std::vector<std::unique_ptr<Registry>> writers;
  for (uint32_t i = 0; i < kWritersMax; ++i) writers.push_back(Open(16));
  const auto one_more = Registry::Open({.path = path_});
  EXPECT_TRUE(absl::IsUnavailable(one_more.status())) << one_more.status();
  writers.pop_back();
  EXPECT_NE(Open(), nullptr);
}

TEST_F(RegistryTest, WhoOpensWaitsForAnotherThatDoes) {
  Open(16);
  const OwnedFd lock(open((path_ + ".lock").c_str(), O_RDWR | O_CLOEXEC));
  struct flock opening = {};
  opening.l_type = F_WRLCK;
  opening.l_whence = SEEK_SET;
  opening.l_len = 1;
  ASSERT_EQ(fcntl(lock.get(), F_OFD_SETLK, &opening), 0);
  const auto registry = Registry::Open({.path = path_});
  EXPECT_TRUE(absl::IsUnavailable(registry.status())) << registry.status();
  EXPECT_NE(std::string(registry.status().message()).find("lslocks"), std::string::npos);
}

TEST_F(RegistryTest, WhatCannotBeOpened) {
  for (const uint32_t capacity : {0u, kRegistryCapacityMax + 1}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(Registry::Open({.path = path_, .capacity = capacity}).status()));
  }
  const auto nowhere = Registry::Open({.path = "/nonexistent/registry"});
  EXPECT_NE(std::string(nowhere.status().message()).find("/nonexistent"), std::string::npos);
  std::string error;
  EXPECT_EQ(Reader::Open(path_ + "/registry", error), nullptr);
  EXPECT_EQ(Reader::Open(std::string(1 << 14, 'x'), error), nullptr);
  EXPECT_EQ(Reader::Open(absl::StrCat("/", std::string(300, 'x')), error), nullptr);
  EXPECT_EQ(Reader::Open(directory_, error), nullptr);
}

// By default, by port, in a directory of the user's that nobody else may write to.
TEST_F(RegistryTest, WhereARegistryIs) {
  const auto in_child = [](auto check) {
    const pid_t child = fork();
    if (child == 0) _exit(check() ? 0 : 1);
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status == 0;
  };
  EXPECT_TRUE(in_child([] {
    setenv("RUNTIME_DIRECTORY", "/run/one:/run/two", 1);
    return DefaultRegistryPath(4369) == "/run/one/registry.4369";
  }));
  if (geteuid() == 0) {
    EXPECT_TRUE(in_child([] {
      setenv("RUNTIME_DIRECTORY", "", 1);
      return DefaultRegistryPath(4369) == "/run/epmd/registry.4369";
    }));
    ASSERT_EQ(chown(directory_, 64101, 64101), 0);
    EXPECT_TRUE(in_child([&] {
      unsetenv("RUNTIME_DIRECTORY");
      if (setuid(64101) != 0) return false;
      setenv("XDG_RUNTIME_DIR", directory_, 1);
      if (DefaultRegistryPath(1) != absl::StrCat(directory_, "/epmd/registry.1")) return false;
      // Not one that is somebody else's, or relative.
      for (const char* other : {"/run", "relative", ""}) {
        setenv("XDG_RUNTIME_DIR", other, 1);
        if (DefaultRegistryPath(1) != "/dev/shm/epmd-64101/registry.1") return false;
      }
      unsetenv("XDG_RUNTIME_DIR");
      return DefaultRegistryPath(1) == "/dev/shm/epmd-64101/registry.1";
    }));
    ASSERT_EQ(chown(directory_, 0, 0), 0);
  }
  const std::string directory = absl::StrCat(directory_, "/new");
  const mode_t before = umask(077);
  EXPECT_TRUE(MakeRegistryDirectory(directory + "/registry").ok());
  umask(before);
  struct stat made;
  ASSERT_EQ(stat(directory.c_str(), &made), 0);
  EXPECT_EQ(made.st_mode & 0777, 0755u);
  EXPECT_TRUE(MakeRegistryDirectory(directory + "/registry").ok());
  const auto refused = [](const std::string& path, const std::string& reason) {
    const absl::Status status = MakeRegistryDirectory(path);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(std::string(status.message()).find(reason), std::string::npos) << status;
  };
  ASSERT_EQ(chmod(directory.c_str(), 0777), 0);
  refused(directory + "/registry", "may be written by other users");
  if (geteuid() == 0) {
    ASSERT_EQ(chmod(directory.c_str(), 0755), 0);
    ASSERT_EQ(chown(directory.c_str(), 64101, 64101), 0);
    refused(directory + "/registry", "belongs to user 64101");
  }
  rmdir(directory.c_str());
  ASSERT_EQ(symlink("/tmp", directory.c_str()), 0);
  refused(directory + "/registry", "is a symbolic link");
  unlink(directory.c_str());
  Open(16);
  refused(path_ + "/registry", "is not a directory");
  refused("/nonexistent/directory/registry", "cannot be made");
  EXPECT_NE(DirectoryComplaint("/nonexistent", 0).find("cannot be examined"), std::string::npos);
}

TEST(PathTest, Parts) {
  EXPECT_EQ(DirectoryOf("/a/b/c"), "/a/b");
  EXPECT_EQ(DirectoryOf("/a"), "/");
  EXPECT_EQ(DirectoryOf("a"), ".");
  EXPECT_EQ(BaseNameOf("/a/b/c"), "c");
  EXPECT_EQ(BaseNameOf("a"), "a");
}

TEST_F(RegistryTest, ARebootTurnsLiveNodesIntoRememberedOnes) {
  RegisterResult node;
  {
    auto registry = Open();
    node = registry->Register({.name = "hare", .port = 5});
  }
  std::string content = ReadFile(path_);
  content[offsetof(layout::Header, boot_id)] ^= 1;
  WriteFile(path_, content);
  auto registry = Open();
  Registration found;
  EXPECT_FALSE(registry->Lookup("hare", found));
  EXPECT_EQ(registry->Register({.name = "hare"}).creation, node.creation + 1);
}

TEST_F(RegistryTest, TheCInterfaceReadsIt) {
  char error[EVERMAP_ERROR_SIZE];
  EXPECT_EQ(evermap_open(path_.c_str(), error), nullptr);
  EXPECT_NE(std::string(error).find(path_), std::string::npos);
  auto registry = Open();
  const RegisterResult hare = registry->Register({.name = "hare", .extra = "e", .port = 5});
  evermap_registry* reader = evermap_open(path_.c_str(), error);
  ASSERT_NE(reader, nullptr) << error;
  evermap_node node;
  ASSERT_EQ(evermap_lookup(reader, "hare", 4, &node), 1);
  EXPECT_STREQ(node.name, "hare");
  EXPECT_STREQ(node.extra, "e");
  EXPECT_EQ(node.port, 5);
  EXPECT_EQ(node.id, hare.id);
  const uint64_t generation = evermap_generation(reader);
  registry->Unregister(hare.slot, hare.id);
  EXPECT_NE(evermap_generation(reader), generation);
  EXPECT_EQ(evermap_lookup(reader, "hare", 4, &node), 0);
  EXPECT_EQ(evermap_superseded(reader), 0);
  uint32_t at = 0;
  ASSERT_EQ(evermap_next(reader, &at, &node), 1);
  EXPECT_EQ(node.state, EVERMAP_REMEMBERED);
  EXPECT_EQ(evermap_next(reader, &at, &node), 0);
  evermap_close(reader);
}

}  // namespace
}  // namespace evermap
