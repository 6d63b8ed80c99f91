// Tests of what dead and stopped writers leave, and of what a reboot leaves (INV-3).
#include "registry/recovery.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/layout.h"
#include "registry/owner.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/segment.h"
#include "registry/segment_header.h"

namespace evermap {
namespace {

using Outcome = RegisterResult::Outcome;

class RecoveryTest : public RegistryDirectoryTest {};

// Moves a record's state word on, as a writer in a place that nobody has would.
void LeaveHalfDone(const std::string& path, uint32_t slot, layout::Kind kind) {
  Problem problem;
  auto segment = Segment::Map(path, SegmentAccess::kWrite, problem);
  ASSERT_NE(segment, nullptr) << problem.message;
  layout::Word& state = segment->record(slot).state;
  state.store(layout::NextState(state.load(), kind, 200));
}

TEST_F(RecoveryTest, Inv3ADeadAmenderIsInNobodysWay) {
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

TEST_F(RecoveryTest, AStoppedAmenderIsNotWaitedForLong) {
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

// Runs a victim until it has done some work, and kills it at any instruction. `survivor` writes, too.
void KillAVictim(const std::string& path, Registry& survivor, VictimLog& log,
                 std::mt19937& random) {
  const uint64_t before = log.operations.load();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) RunVictim(path, log, static_cast<unsigned>(random()));
  // Some work first, then any instruction.
  while (log.operations.load() < before + random() % 20) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, WNOHANG), 0) << "victim ended with " << status;
    // The survivor's names push others out meanwhile.
    const std::string name = absl::StrCat("s", random() % 20);
    const RegisterResult node = survivor.Register({.name = name});
    if (node.outcome == Outcome::kRegistered) survivor.Unregister(node.slot, node.id);
  }
  for (volatile unsigned spin = static_cast<unsigned>(random() % 3000); spin > 0;) spin = spin - 1;
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << "victim ended by itself with " << status;
}

// Checks that a name is as the dead victim has noted it. One that it was changing is ended, and can be
// registered by others.
void CheckVictimsName(Registry& survivor, VictimLog& log, size_t n) {
  Registration found;
  const std::string name = VictimName(n);
  const bool is_found = survivor.Lookup(name, found);
  ASSERT_TRUE(!is_found || IsWhole(found, name)) << "torn: " << name;
  const uint64_t id = log.id[n].load();
  if (log.pending.load() != n || log.keeps.load()) {
    ASSERT_EQ(is_found, id != 0) << name;
    if (is_found) {
      ASSERT_EQ(found.id, id);
      ASSERT_EQ(found.creation, log.creation[n].load());
    }
    return;
  }
  // Either it is done or not; then it goes on from what there is.
  if (is_found) {
    ASSERT_TRUE(survivor.Unregister(found.slot, found.id));
    log.creation_last[n].store(std::max(log.creation_last[n].load(), found.creation));
  }
  log.id[n].store(0);
  // Nobody waits for the dead.
  const std::string extra = ExtraOf(1);
  const RegisterResult node = survivor.Register(NodeOf(name, 1, extra));
  ASSERT_EQ(node.outcome, Outcome::kRegistered) << name;
  ASSERT_TRUE(survivor.Unregister(node.slot, node.id));
  log.creation_last[n].store(std::max(log.creation_last[n].load(), node.creation));
}

TEST_F(RecoveryTest, Inv3WritersMayBeKilledAnywhere) {
  // Hardly more records than names, so that recycling is interrupted too.
  auto survivor = Open(kVictimNames + 8);
  auto* log = SharedWithChildren<VictimLog>();
  log->pending = kVictimNames;
  std::mt19937 random(7);
  const int kills = Scaled(5000);
  for (int i = 0; i < kills; ++i) {
    ASSERT_NO_FATAL_FAILURE(KillAVictim(path_, *survivor, *log, random));
    // Every second time a restart, else the survivor has to cope.
    if (i % 2 == 0) survivor = Open();
    ASSERT_NE(survivor, nullptr);
    for (size_t n = 0; n < kVictimNames; ++n) {
      ASSERT_NO_FATAL_FAILURE(CheckVictimsName(*survivor, *log, n));
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
  ForgedRecord(const std::string& path, uint32_t slot)
      : segment_(Segment::Map(path, SegmentAccess::kWrite, problem_)), slot_(slot) {
    EXPECT_NE(segment_, nullptr) << problem_.message;
  }

  void Claim(layout::Kind kind, uint32_t owner) {
    layout::Word& state = segment_->record(slot_).state;
    state.store(layout::NextState(state.load(), kind, owner));
  }

 private:
  Problem problem_;
  const std::unique_ptr<Segment> segment_;
  const uint32_t slot_;
};

TEST_F(RecoveryTest, Inv3NobodyWaitsForADeadAdopter) {
  auto registry = Open();
  const RegisterResult node = registry->Register({.name = "hare", .connection_cookie = 1});
  ForgedRecord record(path_, node.slot);
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

// A writer that opens the registry gets the first free place, which is that of the dead adopter. Its
// claims must not become those of the new holder, whatever else other writers change meanwhile.
TEST_F(RecoveryTest, Inv3ClaimsAreSettledBeforeTheirPlaceIsGivenAway) {
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
      ForgedRecord(path_, nodes.back().slot).Claim(layout::Kind::kAdopting, kFirstFree);
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

TEST_F(RecoveryTest, ARebootTurnsLiveNodesIntoRememberedOnes) {
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

TEST_F(RecoveryTest, NobodyIsForgottenOfABootThatNobodyCouldTell) {
  Open()->Register({.name = "hare", .port = 5});
  std::string content = ReadFile(path_);
  Registration found;
  // One that could not be read, and one of which half was written (WriteBootId()).
  for (const size_t half : {size_t{0}, sizeof(uint64_t)}) {
    std::string changed = content;
    changed.replace(offsetof(layout::Header, boot_id) + half, sizeof(BootId) - half,
                    sizeof(BootId) - half, '\0');
    WriteFile(path_, changed);
    EXPECT_TRUE(Open()->Lookup("hare", found)) << half;
    EXPECT_EQ(ReadFile(path_).compare(offsetof(layout::Header, boot_id), sizeof(BootId), content,
                                      offsetof(layout::Header, boot_id), sizeof(BootId)),
              0);
  }
  // By now it can.
  content = ReadFile(path_);
  content[offsetof(layout::Header, boot_id)] ^= 1;
  WriteFile(path_, content);
  EXPECT_FALSE(Open()->Lookup("hare", found));
}

TEST_F(RecoveryTest, ANamespaceThatIsNotKnownLeavesTheOneInTheHeader) {
  Open();
  Problem problem;
  const std::unique_ptr<Segment> segment = Segment::Map(path_, SegmentAccess::kWrite, problem);
  ASSERT_NE(segment, nullptr) << problem.message;
  const RegistryOwner owner = {
      .lock = {1, 2}, .network_namespace = {.number = 7, .is_cookie = true}, .port = 4369};
  WriteOwner(owner, *segment);
  WriteOwner({.lock = {1, 3}, .network_namespace = {}, .port = 4369}, *segment);
  EXPECT_EQ(ReadOwner(*segment).network_namespace, owner.network_namespace);
  EXPECT_EQ(ReadOwner(*segment).lock.inode, 3u);
}

TEST(NetworkNamespaceTest, OnlyTwoThatAreToldInOneWayAreTwo) {
  const NetworkNamespace one = {.number = 7, .is_cookie = true};
  EXPECT_TRUE(MayBeOneNamespace(one, one));
  EXPECT_FALSE(MayBeOneNamespace(one, {.number = 8, .is_cookie = true}));
  EXPECT_TRUE(MayBeOneNamespace(one, {.number = 8, .is_cookie = false}));
  EXPECT_TRUE(MayBeOneNamespace(one, {.number = 0, .is_cookie = true}));
  EXPECT_TRUE(MayBeOneNamespace({}, {.number = 8, .is_cookie = false}));
  EXPECT_FALSE(MayBeOneNamespace({.number = 7}, {.number = 8}));
}

TEST(BootIdTest, OnlyTwoThatAreKnownAreOfTwoBoots) {
  EXPECT_TRUE(MayBeOneBoot({1, 2}, {1, 2}));
  EXPECT_FALSE(MayBeOneBoot({1, 2}, {1, 3}));
  EXPECT_TRUE(MayBeOneBoot({0, 0}, {1, 3}));
  EXPECT_TRUE(MayBeOneBoot({1, 2}, {0, 0}));
  EXPECT_TRUE(MayBeOneBoot({1, 2}, {1, 0}));
  EXPECT_TRUE(MayBeOneBoot({0, 3}, {1, 2}));
  EXPECT_NE(CurrentBootId(), (BootId{0, 0}));
}

}  // namespace
}  // namespace evermap
