// Tests of the registry; their names carry the numbers of the invariants (layout.h).
#include "registry/registry.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/evermap.h"
#include "registry/registry_testing.h"

namespace evermap {
namespace {

using Outcome = RegisterResult::Outcome;

class RegistryTest : public RegistryDirectoryTest {};

TEST_F(RegistryTest, WhatIsRegisteredIsFound) {
  auto registry = Open();
  for (const size_t size :
       std::initializer_list<size_t>{1, 7, 8, 9, 32, 152, 159, 160, 161, 1019, 1020}) {
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
    const uint64_t generation = registry->view().generation();
    EXPECT_TRUE(registry->Amend(node.slot, node.id, {.listener_cookie = 7u + orphaned}));
    EXPECT_TRUE(registry->Amend(node.slot, node.id, {.owner_uid = 8u + orphaned}));
    EXPECT_TRUE(registry->Amend(node.slot, node.id, {.owner_pid = 9u + orphaned}));
    EXPECT_EQ(registry->view().generation(), generation);
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
  registry->ForEach(Which::kAll, [&](const Registration& node) {
    if (node.state == RegistrationState::kRemembered) remembered.emplace(node.name());
  });
  EXPECT_EQ(remembered, (std::set<std::string>{"node3", "node5"}));
  EXPECT_EQ(registry->live_count(), 62u);
}

TEST_F(RegistryTest, GenerationChangesWithEveryChange) {
  auto registry = Open();
  uint64_t before = registry->view().generation();
  const auto changed = [&] {
    return std::exchange(before, registry->view().generation()) != before;
  };
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

// Contends for names: the winner of one marks it as its own, and finds no other mark there.
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
