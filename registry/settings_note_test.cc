#include "registry/settings_note.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "registry/location.h"

namespace evermap {
namespace {

using ::testing::HasSubstr;

SettingsNote Counted(uint64_t reloads) {
  SettingsNote note;
  note.reloads = reloads;
  return note;
}

class SettingsNoteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    registry_ = directory_ + "/registry";
    std::ofstream(registry_) << "nodes";
  }
  void TearDown() override {
    unlink(SettingsNotePath(registry_).c_str());
    unlink(registry_.c_str());
    EXPECT_EQ(rmdir(directory_.c_str()), 0) << "something was left behind";
  }

  // What is wrong with the note; empty: nothing.
  std::string ErrorOfReading() {
    std::string error;
    return ReadSettingsNote(registry_, note_, error) ? "" : error;
  }

  std::string directory_ = ::testing::TempDir() + "settings_note_test.XXXXXX";
  std::string registry_;
  SettingsNote note_;
};

TEST_F(SettingsNoteTest, IsReadAsItWasWritten) {
  const SettingsNote written = {.reloads = 7,
                                .refusal = "/f:1: no",
                                .warnings = {"a", "b"},
                                .settings = {{"port", "1", "option", "-port"},
                                             {"access", "list\tfrom\nhost", "file", "/f:2"},
                                             {"debug", "0", "default", ""}},
                                .path = "/f",
                                .files = {{"/f", 1'234'567'890'123}},
                                .users = {{"rabbitmq", 101}}};
  ASSERT_EQ(WriteSettingsNote(registry_, written), "");
  ASSERT_EQ(ErrorOfReading(), "");
  EXPECT_EQ(note_.reloads, 7u);
  EXPECT_EQ(note_.refusal, "/f:1: no");
  EXPECT_EQ(note_.warnings, written.warnings);
  ASSERT_EQ(note_.settings.size(), 3u);
  EXPECT_EQ(note_.settings[0].place, "-port");
  // Control characters neither end a field nor a line.
  EXPECT_EQ(note_.settings[1].value.find_first_of("\t\n"), std::string::npos);
  EXPECT_EQ(note_.settings[1].place, "/f:2");
  EXPECT_EQ(note_.settings[2].origin, "default");
  EXPECT_EQ(note_.path, "/f");
  ASSERT_EQ(note_.files.size(), 1u);
  EXPECT_EQ(note_.files[0].changed_unix_ns, 1'234'567'890'123);
  ASSERT_EQ(note_.users.size(), 1u);
  EXPECT_EQ(note_.users[0].name, "rabbitmq");
  EXPECT_EQ(note_.users[0].uid, 101u);
  // A later one takes its place as a whole.
  ASSERT_EQ(WriteSettingsNote(registry_, Counted(8)), "");
  ASSERT_EQ(ErrorOfReading(), "");
  EXPECT_EQ(note_.reloads, 8u);
  EXPECT_EQ(note_.refusal, "");
  EXPECT_TRUE(note_.settings.empty());
}

TEST_F(SettingsNoteTest, WhatOthersMayHaveWrittenIsNotBelieved) {
  EXPECT_THAT(ErrorOfReading(), HasSubstr(SettingsNotePath(registry_)));
  ASSERT_EQ(WriteSettingsNote(registry_, Counted(1)), "");
  const std::string path = SettingsNotePath(registry_);
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_THAT(ErrorOfReading(), HasSubstr("not believed"));
  ASSERT_EQ(unlink(path.c_str()), 0);
  ASSERT_EQ(symlink(registry_.c_str(), path.c_str()), 0);
  EXPECT_NE(ErrorOfReading(), "");
}

TEST_F(SettingsNoteTest, AMapperBelievesNoStranger) {
  if (geteuid() != 0) GTEST_SKIP() << "another user is needed";
  constexpr uid_t kStranger = 65534;
  ASSERT_EQ(WriteSettingsNote(registry_, Counted(1)), "");
  std::string error;
  EXPECT_TRUE(ReadSettingsNote(registry_, note_, error, NoteOf::kNobodyElse)) << error;
  for (const std::string& path : {registry_, SettingsNotePath(registry_)}) {
    ASSERT_EQ(chown(path.c_str(), kStranger, kStranger), 0);
  }
  EXPECT_TRUE(ReadSettingsNote(registry_, note_, error)) << error;
  EXPECT_FALSE(ReadSettingsNote(registry_, note_, error, NoteOf::kNobodyElse));
}

TEST_F(SettingsNoteTest, LinesOfALaterReleaseArePassedOver) {
  std::ofstream(SettingsNotePath(registry_))
      << "reloads\t3\nnews\tof\tlater\nsetting\ttoo few\n\nreloads";
  ASSERT_EQ(chmod(SettingsNotePath(registry_).c_str(), 0644), 0);
  ASSERT_EQ(ErrorOfReading(), "");
  EXPECT_EQ(note_.reloads, 3u);
  EXPECT_TRUE(note_.settings.empty());
}

TEST_F(SettingsNoteTest, WhatCannotBeWrittenIsSaid) {
  EXPECT_THAT(WriteSettingsNote(directory_ + "/missing/registry", {}),
              HasSubstr("cannot be created"));
}

TEST(SettingsFileNameTest, EditorsFilesAreNone) {
  EXPECT_TRUE(IsSettingsFileName("10-a.conf"));
  for (const char* name : {".a.conf", "a.conf~", "a.conf.bak", ".conf", "a"}) {
    EXPECT_FALSE(IsSettingsFileName(name)) << name;
  }
}

}  // namespace
}  // namespace evermap
