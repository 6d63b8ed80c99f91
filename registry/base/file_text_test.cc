#include "registry/base/file_text.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace evermap {
namespace {

class FileTextTest : public testing::Test {
 protected:
  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }

  const std::string path_ = testing::TempDir() + "file_text";
};

TEST_F(FileTextTest, AllBytesOfAFile) {
  const std::string text = std::string(10000, 'x') + '\0' + "\n\xff";
  Write(text);
  EXPECT_EQ(FileText(path_), text);
}

TEST_F(FileTextTest, NoMoreThanIsWanted) {
  Write(std::string(10000, 'x'));
  for (const size_t size : {0u, 1u, 4096u, 4097u, 10000u}) {
    EXPECT_EQ(FileText(path_, size), std::string(size, 'x'));
  }
  EXPECT_EQ(FileText("/dev/zero").size(), kFileTextMax);
}

TEST_F(FileTextTest, NothingWhereThereIsNoFile) { EXPECT_EQ(FileText(path_ + ".absent"), ""); }

// A directory can be opened, but not read, like a file of /proc whose process has ended.
TEST_F(FileTextTest, NothingOfWhatCannotBeRead) {
  EXPECT_EQ(FileText("/"), "");
  EXPECT_EQ(FirstLineOf("/"), "");
}

TEST_F(FileTextTest, FirstLineEndsAtTheFirstEnd) {
  for (const std::string text : {"one\ntwo\n", "one\n", "one"}) {
    Write(text);
    EXPECT_EQ(FirstLineOf(path_), "one");
  }
  Write("\ntwo");
  EXPECT_EQ(FirstLineOf(path_), "");
}

}  // namespace
}  // namespace evermap
