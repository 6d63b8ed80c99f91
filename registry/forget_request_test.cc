#include "registry/forget_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace evermap {
namespace {

using testing::HasSubstr;

class ForgetRequestTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    registry_ = std::string(directory_) + "/registry";
    std::ofstream(registry_) << "x";
  }
  ~ForgetRequestTest() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& text) { std::ofstream(registry_ + ".forget") << text; }

  char directory_[40] = "/tmp/forget-request-test-XXXXXX";
  std::string registry_;
};

TEST_F(ForgetRequestTest, IsTakenOnce) {
  EXPECT_EQ(TakeForgetRequest(registry_).registration.id, 0u);
  EXPECT_FALSE(HasForgetRequest(registry_));
  EXPECT_EQ(WriteForgetRequest(registry_, {.registration = {7, ~uint64_t{0}}, .asking_uid = 1000}),
            "");
  EXPECT_TRUE(HasForgetRequest(registry_));
  const ForgetRequest taken = TakeForgetRequest(registry_);
  EXPECT_EQ(taken.registration.slot, 7u);
  EXPECT_EQ(taken.registration.id, ~uint64_t{0});
  EXPECT_EQ(taken.asking_uid, 1000u);
  EXPECT_EQ(taken.complaint, "");
  EXPECT_EQ(TakeForgetRequest(registry_).registration.id, 0u);
}

TEST_F(ForgetRequestTest, IsTakenBack) {
  EXPECT_EQ(WriteForgetRequest(registry_, {.registration = {7, 8}}), "");
  RemoveForgetRequest(registry_);
  EXPECT_EQ(TakeForgetRequest(registry_).registration.id, 0u);
}

TEST_F(ForgetRequestTest, OtherTextsAreNotUnderstood) {
  for (const char* text : {"x", "7", "7 8", "7 8 9 10", "-7 8 9", "7 8 99999999999", "7  8 9"}) {
    Write(text);
    const ForgetRequest taken = TakeForgetRequest(registry_);
    EXPECT_EQ(taken.registration.id, 0u) << text;
    EXPECT_THAT(taken.complaint, HasSubstr("not understood")) << text;
    EXPECT_FALSE(HasForgetRequest(registry_));
  }
}

TEST_F(ForgetRequestTest, AFileThatOthersMayWriteToIsNotBelieved) {
  Write("7 8 9");
  chmod((registry_ + ".forget").c_str(), 0666);
  const ForgetRequest taken = TakeForgetRequest(registry_);
  EXPECT_EQ(taken.registration.id, 0u);
  EXPECT_THAT(taken.complaint, HasSubstr("not believed"));
}

}  // namespace
}  // namespace evermap
