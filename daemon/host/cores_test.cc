#include "daemon/host/cores.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace evermap {
namespace {

namespace fs = std::filesystem;

TEST(CoresOfQuotaTest, RoundsUp) {
  EXPECT_EQ(CoresOfQuota("20000 100000\n"), 1u);
  EXPECT_EQ(CoresOfQuota("100000 100000\n"), 1u);
  EXPECT_EQ(CoresOfQuota("100001 100000"), 2u);
  EXPECT_EQ(CoresOfQuota("850000 100000"), 9u);
}

TEST(CoresOfQuotaTest, AnyNumber) {
  for (const char* text :
       {"max 100000", "max", "", "5", "0 100000", "100000 0", "-1 100000", "x y"}) {
    EXPECT_EQ(CoresOfQuota(text), 0u) << text;
  }
}

class UsableCoresTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "coresXXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    Write("own", "3:memory:/elsewhere\n0::/outer/inner\n");
    fs::create_directories(root_ + "/outer/inner");
  }
  void TearDown() override { fs::remove_all(root_); }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ + "/" + name) << text;
  }
  uint32_t Usable() const { return UsableCores(root_, root_ + "/own"); }

  std::string root_;
};

TEST_F(UsableCoresTest, WithoutAQuotaThoseOfTheProcess) {
  const uint32_t all = Usable();
  EXPECT_GE(all, 1u);
  Write("outer/cpu.max", "max 100000\n");
  EXPECT_EQ(Usable(), all);
  EXPECT_EQ(UsableCores("/nonexistent", "/nonexistent"), all);
}

TEST_F(UsableCoresTest, TheLeastQuotaOnTheWayUpCounts) {
  for (const char* place : {"cpu.max", "outer/cpu.max", "outer/inner/cpu.max"}) {
    Write(place, "30000 100000\n");
    EXPECT_EQ(Usable(), 1u) << place;
    fs::remove(root_ + "/" + place);
  }
  // The root of a container, where the path is the host's and leads nowhere.
  fs::remove_all(root_ + "/outer");
  Write("cpu.max", "30000 100000\n");
  EXPECT_EQ(Usable(), 1u);
  fs::create_directories(root_ + "/outer/inner");
  fs::remove(root_ + "/cpu.max");
  Write("outer/inner/cpu.max", "9900000 100000\n");
  Write("outer/cpu.max", "100000 100000\n");
  EXPECT_EQ(Usable(), 1u);
}

TEST_F(UsableCoresTest, Version1) {
  Write("own", "3:memory:/elsewhere\n2:cpu,cpuacct:/outer\n1:cpuset:/\n0::/\n");
  fs::create_directories(root_ + "/cpu/outer");
  const uint32_t all = Usable();
  Write("cpu/cpu.cfs_period_us", "100000\n");
  Write("cpu/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(Usable(), all);
  Write("cpu/outer/cpu.cfs_period_us", "50000\n");
  Write("cpu/outer/cpu.cfs_quota_us", "50000\n");
  EXPECT_EQ(Usable(), 1u);
}

}  // namespace
}  // namespace evermap
