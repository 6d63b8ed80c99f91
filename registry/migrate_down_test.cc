// Tests of the way back to layout version 2 (INV-7): nothing is lost, there and back again.
#include "registry/migrate_down.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/counters.h"
#include "registry/migration.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/segment.h"

namespace evermap {
namespace {

using Outcome = RegisterResult::Outcome;

class MigrateDownTest : public RegistryDirectoryTest {
 protected:
  // Registrations of all states and sizes.
  static void Fill(Registry& registry) {
    for (uint16_t i = 0; i < 700; ++i) {
      const std::string name =
          absl::StrCat("node", i, std::string(i % 11 == 0 ? 900 : i % 170, 'n'));
      const RegisterResult node = registry.Register(NodeOf(name, i, ExtraOf(i)));
      ASSERT_EQ(node.outcome, Outcome::kRegistered);
      if (i % 2 == 0) registry.Amend(node.slot, node.id, {.listener_cookie = i, .owner_uid = i});
      if (i % 3 == 1) registry.Orphan(node.slot, node.id);
      if (i % 5 == 2) registry.Unregister(node.slot, node.id);
    }
    registry.statistics(255).stored = 77;
    registry.SetMapperStatus({.pid = 1, .version = "new"});
    registry.SetUpgradeStatus({.number = 41, .text = "because"});
  }
  std::map<uint32_t, std::string> Dump() const {
    std::string error;
    const auto reader = Reader::Open(path_, error);
    EXPECT_NE(reader, nullptr) << error;
    std::map<uint32_t, std::string> nodes;
    Registration node;
    Registration found;
    for (uint32_t slot = 0; slot < reader->view().slots_used(); ++slot) {
      if (!reader->view().ReadSlot(slot, node)) continue;
      EXPECT_EQ(reader->view().Lookup(node.name(), found),
                node.state != RegistrationState::kRemembered);
      // The departure itself is of another time there; what is shown is the same.
      node.departure = 0;
      nodes[slot] = Describe(node);
    }
    return nodes;
  }
  uint32_t Version() const { return static_cast<unsigned char>(ReadFile(path_)[8]); }
};

TEST_F(MigrateDownTest, Inv7ThereAndBackAgain) {
  auto registry = Open(1000);
  Fill(*registry);
  const auto before = Dump();
  ASSERT_EQ(before.size(), 700u);
  ASSERT_EQ(Version(), layout::kLayoutVersion);
  Problem problem;
  ASSERT_NE(DownCopy::Publish(path_, problem), nullptr) << problem.message;
  EXPECT_EQ(Version(), 2u);
  EXPECT_EQ(Dump(), before);
  EXPECT_TRUE(registry->view().superseded());
  std::string error;
  const auto reader = Reader::Open(path_, error);
  EXPECT_EQ(reader->view().capacity(), 1000u);
  EXPECT_EQ(reader->view().statistics(255).stored.load(), 77u);
  EXPECT_EQ(reader->view().mapper_status().version, "new");
  EXPECT_EQ(reader->view().upgrade_status().text, "because");
  EXPECT_GT(reader->view().generation(), registry->view().generation());
  // It is put back as it was, ...
  ASSERT_TRUE(registry->RollBackSuccessorsMigration().ok());
  EXPECT_FALSE(registry->view().superseded());
  EXPECT_TRUE(reader->view().superseded());
  EXPECT_EQ(Version(), layout::kLayoutVersion);
  EXPECT_EQ(Dump(), before);
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  // ... or the older release goes on with it, and is upgraded again.
  ASSERT_NE(DownCopy::Publish(path_, problem), nullptr) << problem.message;
  registry.reset();
  registry = Open();
  registry->FinishMigration();
  EXPECT_EQ(Version(), layout::kLayoutVersion);
  EXPECT_EQ(Dump(), before);
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  Registration found;
  for (uint32_t slot = 0; slot < 700; ++slot) {
    ASSERT_TRUE(registry->ReadSlot(slot, found));
    if (found.state != RegistrationState::kRemembered) {
      EXPECT_TRUE(IsWhole(found, std::string(found.name())));
      EXPECT_TRUE(registry->Unregister(slot, found.id));
    }
    const std::string name(found.name());
    EXPECT_EQ(registry->Register({.name = name}).creation, found.creation + 1);
  }
}

// Who has the copy open sees in it what was changed since: what is new, has ended, was orphaned, got
// a longer text, and records that were not there before.
TEST_F(MigrateDownTest, Inv7WhatIsWrittenMeanwhileIsInIt) {
  auto registry = Open(2000);
  Fill(*registry);
  Problem problem;
  const auto copy = DownCopy::Publish(path_, problem);
  ASSERT_NE(copy, nullptr) << problem.message;
  std::string error;
  const auto reader = Reader::Open(path_, error);
  ASSERT_NE(reader, nullptr) << error;
  Registration found;
  for (uint32_t slot = 0; slot < 700; slot += 2) {
    ASSERT_TRUE(registry->ReadSlot(slot, found));
    if (found.state == RegistrationState::kRemembered) continue;
    const std::string name(found.name());
    registry->Unregister(slot, found.id);
    if (slot % 3 == 0) registry->Register(NodeOf(name, 7, ExtraOf(slot + 1)));
    if (slot % 5 == 0) registry->Orphan(slot, found.id);
  }
  for (uint16_t i = 0; i < 900; ++i) {
    registry->Register(NodeOf(absl::StrCat("later", i, std::string(i % 190, 'l')), i, ExtraOf(i)));
  }
  EXPECT_FALSE(reader->view().Lookup("later0", found));
  problem = copy->Refresh();
  ASSERT_FALSE(problem) << problem.message;
  const auto now = Dump();
  EXPECT_EQ(Version(), 2u);
  EXPECT_TRUE(reader->view().Lookup("later0", found));
  EXPECT_FALSE(reader->view().superseded());
  ASSERT_TRUE(registry->RollBackSuccessorsMigration().ok());
  EXPECT_EQ(Version(), layout::kLayoutVersion);
  EXPECT_EQ(Dump(), now);
}

TEST_F(MigrateDownTest, Inv3MayBeKilledAtEachStep) {
  auto registry = Open(1000);
  Fill(*registry);
  const auto before = Dump();
  registry.reset();
  const std::string content = ReadFile(path_);
  int crashes = 0;
  for (int step = 1; step <= 10; ++step) {
    for (const std::string& name : Names()) unlink(absl::StrCat(directory_, "/", name).c_str());
    WriteFile(path_, content);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      static int crash_at;
      crash_at = step;
      SetMigrationHookForTests([](int reached) {
        if (reached == crash_at) raise(SIGKILL);
      });
      Problem problem;
      _exit(DownCopy::Publish(path_, problem) == nullptr ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    crashes += WIFSIGNALED(status) ? 1 : 0;
    EXPECT_EQ(Dump(), before) << step;
    registry = Open();
    ASSERT_NE(registry, nullptr);
    registry->FinishMigration();
    EXPECT_EQ(Dump(), before) << step;
    EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"})) << step;
    registry.reset();
  }
  EXPECT_EQ(crashes, 5) << "the steps that publish it";
}

TEST_F(MigrateDownTest, WhatCannotBeCopiedStays) {
  Problem problem;
  EXPECT_EQ(DownCopy::Publish(path_, problem), nullptr);
  EXPECT_EQ(problem.kind, Problem::Kind::kNotFound);
  unlink((path_ + ".lock").c_str());
  Open(16);
  problem = {};
  ASSERT_NE(DownCopy::Publish(path_, problem), nullptr) << problem.message;
  // It has that layout already.
  const std::string content = ReadFile(path_);
  EXPECT_EQ(DownCopy::Publish(path_, problem), nullptr);
  EXPECT_EQ(problem.kind, Problem::Kind::kUnacceptable);
  EXPECT_TRUE(FileHas(path_, content));
}

}  // namespace
}  // namespace evermap
