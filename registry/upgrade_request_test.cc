// The file that names the program of the next upgrade, written by one process and taken by another.
#include "registry/upgrade_request.h"

#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class UpgradeRequestTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/upgrade_request.XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    registry_ = directory_ + "/registry";
    request_ = registry_ + ".upgrade";
    Write(registry_, "any");
  }
  void TearDown() override {
    unlink(request_.c_str());
    unlink(registry_.c_str());
    rmdir(directory_.c_str());
  }
  static void Write(const std::string& path, const std::string& text, mode_t mode = 0600) {
    FILE* file = fopen(path.c_str(), "w");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(fwrite(text.data(), 1, text.size(), file), text.size());
    ASSERT_EQ(fclose(file), 0);
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
  }
  bool IsThere() const { return access(request_.c_str(), F_OK) == 0; }

  std::string directory_;
  std::string registry_;
  std::string request_;
};

TEST_F(UpgradeRequestTest, WhatIsWrittenIsTakenOnce) {
  EXPECT_THAT(WriteUpgradeRequest(registry_, "/first"), IsEmpty());
  EXPECT_THAT(WriteUpgradeRequest(registry_, "/opt/a program"), IsEmpty());
  const UpgradeRequest request = TakeUpgradeRequest(registry_);
  EXPECT_EQ(request.program, "/opt/a program");
  EXPECT_THAT(request.complaint, IsEmpty());
  EXPECT_FALSE(IsThere());
  EXPECT_THAT(TakeUpgradeRequest(registry_).program, IsEmpty());
}

TEST_F(UpgradeRequestTest, OnlyItsUserCanReadAndWriteIt) {
  ASSERT_THAT(WriteUpgradeRequest(registry_, "/program"), IsEmpty());
  struct stat file;
  ASSERT_EQ(stat(request_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
  EXPECT_EQ(file.st_uid, geteuid());
}

TEST_F(UpgradeRequestTest, WhatOthersMayWriteDoesNotCount) {
  for (const mode_t mode : {mode_t{0620}, mode_t{0602}, mode_t{0666}}) {
    Write(request_, "/program", mode);
    const UpgradeRequest request = TakeUpgradeRequest(registry_);
    EXPECT_THAT(request.program, IsEmpty()) << mode;
    EXPECT_EQ(request.complaint, request_ + " is not believed: others may write to it");
    EXPECT_FALSE(IsThere()) << mode;
  }
}

TEST_F(UpgradeRequestTest, WhatIsNoFileDoesNotCount) {
  ASSERT_EQ(mkfifo(request_.c_str(), 0600), 0);
  EXPECT_THAT(TakeUpgradeRequest(registry_).complaint, HasSubstr("is not believed"));
  EXPECT_FALSE(IsThere());
  // A link is not followed, and stays where it is.
  ASSERT_EQ(symlink(registry_.c_str(), request_.c_str()), 0);
  const UpgradeRequest request = TakeUpgradeRequest(registry_);
  EXPECT_THAT(request.program, IsEmpty());
  EXPECT_THAT(request.complaint, IsEmpty());
}

TEST_F(UpgradeRequestTest, OnlyAnAbsolutePathCounts) {
  for (const char* text : {"", "\n", "program", "./program", " /program"}) {
    Write(request_, text);
    const UpgradeRequest request = TakeUpgradeRequest(registry_);
    EXPECT_THAT(request.program, IsEmpty()) << text;
    EXPECT_THAT(request.complaint, IsEmpty()) << text;
  }
  Write(request_, "/program\n");
  EXPECT_EQ(TakeUpgradeRequest(registry_).program, "/program");
}

TEST_F(UpgradeRequestTest, NoMoreThanAPathIsRead) {
  Write(request_, "/" + std::string(2 * PATH_MAX, 'x'));
  EXPECT_EQ(TakeUpgradeRequest(registry_).program.size(), static_cast<size_t>(PATH_MAX));
}

TEST_F(UpgradeRequestTest, ItCanBeTakenBack) {
  ASSERT_THAT(WriteUpgradeRequest(registry_, "/program"), IsEmpty());
  RemoveUpgradeRequest(registry_);
  EXPECT_THAT(TakeUpgradeRequest(registry_).program, IsEmpty());
  RemoveUpgradeRequest(registry_);
}

TEST_F(UpgradeRequestTest, AReloadIsOpenUntilItIsEnded) {
  std::string complaint;
  EXPECT_FALSE(BeginReload(registry_, complaint));
  uint64_t first = 0;
  ASSERT_THAT(WriteReloadRequest(registry_, first), IsEmpty());
  EXPECT_TRUE(IsReloadOpen(registry_, first));
  EXPECT_TRUE(BeginReload(registry_, complaint));
  EXPECT_TRUE(IsReloadOpen(registry_, first));
  // Another one waits meanwhile, and is not ended with it.
  uint64_t second = 0;
  ASSERT_THAT(WriteReloadRequest(registry_, second), IsEmpty());
  EXPECT_NE(second, first);
  EndReload(registry_);
  EXPECT_FALSE(IsReloadOpen(registry_, first));
  EXPECT_TRUE(IsReloadOpen(registry_, second));
  EXPECT_TRUE(BeginReload(registry_, complaint));
  // Who has begun it has died.
  EXPECT_TRUE(BeginReload(registry_, complaint));
  EndReload(registry_);
  EXPECT_FALSE(IsReloadOpen(registry_, second));
  EXPECT_FALSE(BeginReload(registry_, complaint));
  EXPECT_THAT(complaint, IsEmpty());
}

TEST_F(UpgradeRequestTest, AReloadThatNobodyWaitsForIsTakenBack) {
  uint64_t id = 0;
  ASSERT_THAT(WriteReloadRequest(registry_, id), IsEmpty());
  RemoveReloadRequest(registry_);
  std::string complaint;
  EXPECT_FALSE(BeginReload(registry_, complaint));
  EXPECT_THAT(complaint, IsEmpty());
}

TEST_F(UpgradeRequestTest, WhatIsNoRequestForAReloadIsRemoved) {
  std::string complaint;
  ASSERT_EQ(mkdir((registry_ + ".reload").c_str(), 0755), 0);
  EXPECT_FALSE(BeginReload(registry_, complaint));
  EXPECT_THAT(complaint, HasSubstr("is not believed"));
  uint64_t id = 0;
  ASSERT_THAT(WriteReloadRequest(registry_, id), IsEmpty());
  EXPECT_TRUE(BeginReload(registry_, complaint));
  EndReload(registry_);
}

TEST_F(UpgradeRequestTest, WithoutARegistryThereIsNobodyToAsk) {
  ASSERT_EQ(unlink(registry_.c_str()), 0);
  EXPECT_THAT(WriteUpgradeRequest(registry_, "/program"), HasSubstr("mapper's user"));
  EXPECT_FALSE(IsThere());
  const std::string nowhere = directory_ + "/none/registry";
  EXPECT_THAT(WriteUpgradeRequest(nowhere, "/program"), StartsWith(nowhere + ".upgrade."));
}

TEST(UpgradeRequestDeathTest, ARelativeProgramIsTheCallersMistake) {
  EXPECT_DEATH(WriteUpgradeRequest("/nonexistent/registry", "program"), "starts_with");
}

}  // namespace
}  // namespace evermap
