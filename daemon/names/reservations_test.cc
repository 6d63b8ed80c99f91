#include "daemon/names/reservations.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "daemon/host/sock_diag.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

using ::testing::HasSubstr;

uint32_t UidFor(const Reservations& reservations, std::string_view name) {
  const Reservations::Holder* holder = reservations.HolderOf(name);
  return holder == nullptr ? 4711 : holder->origins.users.at(0).uid;
}

absl::Status Read(Reservations& reservations, const std::vector<std::string>& values) {
  FoundUsers users;
  absl::Status first;
  for (const std::string& value : values) first.Update(reservations.Read("-reserve", value, users));
  return first;
}

// The message, which is one line.
std::string ErrorOf(const std::vector<std::string>& values) {
  Reservations reservations;
  const absl::Status status = Read(reservations, values);
  EXPECT_EQ(std::string(status.message()).find('\n'), std::string::npos) << status;
  return std::string(status.message());
}

class FileTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(directory_), nullptr); }
  void TearDown() override {
    unlink(path().c_str());
    rmdir(directory_);
  }
  std::string path() const { return std::string(directory_) + "/reserved"; }
  std::string Write(std::string_view content, mode_t mode = 0644) const {
    std::ofstream(path()) << content;
    EXPECT_EQ(chmod(path().c_str(), mode), 0);
    return absl::StrCat("@", path());
  }

  char directory_[40] = "/tmp/evermap-reservations-XXXXXX";
};

TEST(ReservationsTest, Values) {
  Reservations reservations;
  EXPECT_EQ(reservations.HolderOf("hare"), nullptr);
  ASSERT_TRUE(
      Read(reservations, {"hare=root", "rabbit = 1234", "a=b=5", "hare2=1", "hare2=2"}).ok());
  EXPECT_EQ(UidFor(reservations, "hare"), 0u);
  EXPECT_EQ(UidFor(reservations, "rabbit"), 1234u);
  EXPECT_EQ(UidFor(reservations, "a=b"), 5u);
  EXPECT_EQ(UidFor(reservations, "hare2"), 2u);
  EXPECT_EQ(reservations.HolderOf("hare1"), nullptr);
}

TEST(ReservationsTest, WhatIsNone) {
  for (const char* text : {"", "=", "hare", "hare=", "=root", " =root"}) {
    EXPECT_THAT(ErrorOf({text}), HasSubstr("NAME=USER")) << text;
  }
  EXPECT_THAT(ErrorOf({"hare@host=root"}), HasSubstr("@HOST"));
  EXPECT_THAT(ErrorOf({"hare=no-such-user-here"}), HasSubstr("does not know"));
  EXPECT_THAT(ErrorOf({"hare=-1"}), HasSubstr("does not know"));
  EXPECT_THAT(ErrorOf({"@relative"}), HasSubstr("whole path"));
  EXPECT_THAT(ErrorOf({"@/no/such/file"}), HasSubstr("/no/such/file: No such file"));
  EXPECT_THAT(ErrorOf({"@/dev/null"}), HasSubstr("is no file"));
  EXPECT_THAT(ErrorOf({"hare=a\nb"}), HasSubstr("does not know"));
}

TEST(ReservationsTest, GoesOnAfterAnError) {
  Reservations reservations;
  EXPECT_FALSE(Read(reservations, {"nonsense", "hare=no-such-user-here", "rabbit=1"}).ok());
  EXPECT_EQ(UidFor(reservations, "hare"), kUnknownUid);
  EXPECT_EQ(UidFor(reservations, "rabbit"), 1u);
}

TEST(ReservationsTest, WhoseNamesAreNotToldNobodyHasAnyOther) {
  for (const char* value : {"@/no/such/file", "nonsense"}) {
    Reservations reservations;
    EXPECT_FALSE(Read(reservations, {"hare=1", value}).ok());
    EXPECT_TRUE(reservations.HasUntold()) << value;
    EXPECT_EQ(UidFor(reservations, "hare"), 1u);
    ASSERT_NE(reservations.HolderOf("rabbit"), nullptr) << value;
    EXPECT_FALSE(reservations.HolderOf("rabbit")->Has(1));
    EXPECT_FALSE(reservations.HolderOf("rabbit")->Has(0));
  }
  // The name of a user who is not known is.
  Reservations reservations;
  EXPECT_FALSE(Read(reservations, {"hare=no-such-user-here"}).ok());
  EXPECT_FALSE(reservations.HasUntold());
  EXPECT_EQ(reservations.HolderOf("rabbit"), nullptr);
}

TEST(ReservationsTest, OneMoreThanThereIsRoomFor) {
  std::vector<std::string> values;
  for (size_t i = 0; i < kReservationsMax; ++i) values.push_back(absl::StrCat("node", i, "=1"));
  Reservations reservations;
  ASSERT_TRUE(Read(reservations, values).ok());
  values.emplace_back("hare=1");
  EXPECT_THAT(ErrorOf(values), HasSubstr("one more than"));
}

TEST_F(FileTest, HasOneALine) {
  Reservations reservations;
  const absl::Status status =
      Read(reservations, {Write("# who has what\n\n hare=root \r\n\trabbit=7\nfox=8")});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(UidFor(reservations, "hare"), 0u);
  EXPECT_EQ(UidFor(reservations, "rabbit"), 7u);
  EXPECT_EQ(UidFor(reservations, "fox"), 8u);
}

TEST_F(FileTest, SaysInWhichLine) {
  EXPECT_THAT(ErrorOf({Write("hare=root\n\nnonsense\n")}), HasSubstr("reserved:3: 'nonsense'"));
}

TEST_F(FileTest, OthersMayNotWrite) {
  EXPECT_THAT(ErrorOf({Write("hare=root\n", 0664)}), HasSubstr("chmod"));
  EXPECT_THAT(ErrorOf({Write("hare=root\n", 0646)}), HasSubstr("chmod"));
}

TEST_F(FileTest, IsOfRootOrOfTheMappersUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string value = Write("hare=root\n");
  ASSERT_EQ(chown(path().c_str(), 64101, 64101), 0);
  EXPECT_THAT(ErrorOf({value}), HasSubstr("belongs to another user"));
}

TEST_F(FileTest, WhatIsNoFileOrTooLongIsRefused) {
  EXPECT_THAT(ErrorOf({absl::StrCat("@", directory_)}), HasSubstr(directory_));
  const std::string value = Write("");
  ASSERT_EQ(truncate(path().c_str(), kReservationFileSizeMax + 1), 0);
  EXPECT_THAT(ErrorOf({value}), HasSubstr("is too long"));
}

TEST(ReservationsTest, RulesTakeTheSameRoom) {
  Reservations reservations;
  for (size_t i = 0; i < kReservationsMax; ++i) {
    ASSERT_TRUE(reservations.Let(absl::StrCat("node", i), {}).ok());
  }
  EXPECT_THAT(std::string(reservations.Let("hare", {}).message()), HasSubstr("one more than"));
}

}  // namespace
}  // namespace evermap
