// Tests of rolling a migration back (INV-7): by the predecessor, by the next mapper of the old layout,
// and by a successor that does not serve.
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/migration.h"
#include "registry/migration_testing.h"
#include "registry/reader.h"
#include "registry/registry.h"

namespace evermap {
namespace {

TEST_F(MigrationTest, Inv7TheOldMapperTakesItBack) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  const ino_t inode = Inode(path_);
  const std::string content = ReadFile(path_);
  EXPECT_EQ(old->Tell("restore"), "OK") << "nothing to do";
  EXPECT_TRUE(FileHas(path_, content));

  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  EXPECT_EQ(old->Tell("superseded"), "yes");
  EXPECT_NE(Inode(path_), inode);
  EXPECT_EQ(Inode(absl::StrCat(path_, ".previous")), inode);
  fresh->Register({.name = "lost"});
  // Of the new one's readers, one that stays.
  std::string error;
  const auto reader = Reader::Open(path_, error);

  EXPECT_EQ(old->Tell("restore"), "OK");
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_TRUE(FileHas(path_, content));
  EXPECT_EQ(old->Tell("superseded"), "no");
  EXPECT_TRUE(fresh->view().superseded());
  EXPECT_TRUE(reader->view().superseded());
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  fresh.reset();
  EXPECT_EQ(old->Dump(), before);
  EXPECT_NE(old->Tell("register hare"), "0");

  // The next upgrade goes well.
  fresh = Open();
  Registration found;
  EXPECT_TRUE(fresh->Lookup("hare", found));
  EXPECT_EQ(Inode(absl::StrCat(path_, ".previous")), inode);
  old->Kill();
  fresh->FinishMigration();
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  EXPECT_FALSE(fresh->view().superseded());
  EXPECT_TRUE(fresh->RollBackSuccessorsMigration().ok()) << "nothing to do";
}

// Both mappers of an upgrade have died before the new one served, and the next is of the old kind.
TEST_F(MigrationTest, Inv7TheNextOldMapperTakesItBack) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  const ino_t inode = Inode(path_);
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  old->Kill();
  // While the new one lives it may have acknowledged something.
  EXPECT_NE(OldMapper({path_}).ReadLine().find("newer version"), std::string::npos);
  fresh.reset();
  old = StartOld();
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_EQ(old->Dump(), before);
  EXPECT_EQ(old->Tell("superseded"), "no");
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  // What was made final stays.
  old->Kill();
  fresh = Open();
  fresh->FinishMigration();
  fresh.reset();
  EXPECT_NE(OldMapper({path_}).ReadLine().find("newer version"), std::string::npos);
  EXPECT_EQ(DumpOf(path_), before);
}

TEST_F(MigrationTest, Inv7ANewMapperThatDoesNotServeGivesItBack) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const ino_t inode = Inode(path_);
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  ASSERT_EQ(old->Tell("superseded"), "yes");
  EXPECT_TRUE(fresh->RollBackOwnMigration().ok());
  EXPECT_EQ(old->Tell("superseded"), "no");
  EXPECT_TRUE(fresh->view().superseded());
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_TRUE(fresh->RollBackOwnMigration().ok()) << "nothing to do";
  EXPECT_EQ(old->Tell("restore"), "OK") << "nothing to do";
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
}

TEST_F(MigrationTest, Inv7AnUpgradeKilledAtEachStepIsTakenBack) {
  for (int step = 1; step < kStepsMax; ++step) {
    auto old = StartOld();
    ASSERT_EQ(old->Tell(step == 1 ? "fill" : absl::StrCat("register step", step)).empty(), false);
    const std::string content = ReadFile(path_);
    ASSERT_TRUE(OpenAndCrash(step));
    EXPECT_EQ(old->Tell("restore"), "OK") << step;
    EXPECT_TRUE(FileHas(path_, content)) << step;
    EXPECT_EQ(old->Tell("superseded"), "no") << step;
    old->Kill();
    old = StartOld();
    EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"})) << step;
  }
}

TEST_F(MigrationTest, Inv7TakingBackMayBeKilledAtEachStep) {
  int crashes = 0;
  for (int step = 1; step < kStepsMax; ++step) {
    unlink(path_.c_str());
    auto old = StartOld();
    ASSERT_EQ(old->Tell("fill"), "ok");
    const std::vector<std::string> before = old->Dump();
    auto fresh = Open();
    ASSERT_NE(fresh, nullptr);
    ASSERT_EQ(old->Tell(absl::StrCat("crash ", step)), "ok");
    if (old->Tell("restore") == "OK") continue;
    ++crashes;
    fresh.reset();
    EXPECT_EQ(VersionOfFile(ReadFile(path_)), step <= 2 ? kNewVersion : kOldVersion);
    EXPECT_EQ(DumpOf(path_), before) << step;
    // The next process that opens the registry comes through.
    fresh = Open();
    ASSERT_NE(fresh, nullptr);
    fresh->FinishMigration();
    EXPECT_EQ(DumpOf(path_), before) << step;
    EXPECT_FALSE(fresh->view().superseded());
    EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"})) << step;
  }
  EXPECT_EQ(crashes, 5);
}

TEST_F(MigrationTest, Inv7TheOldCodeLeavesANewerLayoutAlone) {
  StartOld()->Tell("fill");
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  fresh->FinishMigration();
  fresh.reset();
  const std::string content = ReadFile(path_);
  OldMapper old({path_});
  const std::string refusal = old.ReadLine();
  EXPECT_NE(refusal.find("FAILED_PRECONDITION"), std::string::npos) << refusal;
  EXPECT_NE(refusal.find("newer version"), std::string::npos) << refusal;
  EXPECT_TRUE(FileHas(path_, content));
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
}

}  // namespace
}  // namespace evermap
