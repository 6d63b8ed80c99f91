// Which program this process runs.
#include "daemon/host/own_program.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

TEST(OwnProgramTest, TheKernelKnowsTheFile) {
  unsetenv(kBinaryVariable);
  EXPECT_THAT(OwnProgram(), StartsWith("/"));
  EXPECT_THAT(OwnProgram(), EndsWith("/unit_host_test"));
}

TEST(OwnProgramTest, TheVariableCountsWhenItIsAnAbsolutePath) {
  unsetenv(kBinaryVariable);
  const std::string own = OwnProgram();
  setenv(kBinaryVariable, "/some/other", 1);
  EXPECT_EQ(OwnProgram(), "/some/other");
  for (const char* no_path : {"relative", ""}) {
    setenv(kBinaryVariable, no_path, 1);
    EXPECT_EQ(OwnProgram(), own) << no_path;
  }
  unsetenv(kBinaryVariable);
}

}  // namespace
}  // namespace evermap
