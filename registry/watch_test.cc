// Tests of waiting for changes of a registry's file.
#include "registry/watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "registry/base/owned_fd.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/segment_file.h"

namespace evermap {
namespace {

class WatchTest : public RegistryDirectoryTest {
 protected:
  static OwnedFd MakeFile(const std::string& path) {
    OwnedFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    EXPECT_TRUE(fd.valid());
    return fd;
  }
  static std::unique_ptr<RegistryWatch> Open(const std::string& path) {
    std::string problem;
    std::unique_ptr<RegistryWatch> watch = RegistryWatch::Open(path, problem);
    EXPECT_NE(watch, nullptr) << problem;
    return watch;
  }
  static bool IsReadable(const RegistryWatch& watch) {
    pollfd waited = {watch.fd(), POLLIN, 0};
    return poll(&waited, 1, 0) == 1;
  }
  // "changed", "replaced", "changed replaced" or "".
  static std::string Taken(RegistryWatch& watch) {
    const RegistryWatch::News news = watch.Take();
    EXPECT_EQ(news.error, 0);
    EXPECT_FALSE(IsReadable(watch));
    return std::string(news.is_changed ? "changed" : "") +
           (news.is_changed && news.is_replaced ? " " : "") + (news.is_replaced ? "replaced" : "");
  }

  std::string path() const { return directory() + "/registry"; }
  std::string directory() const { return path_of_test_ + "/deep"; }
  void SetUp() override {
    RegistryDirectoryTest::SetUp();
    path_of_test_ = std::filesystem::path(path_).parent_path();
    std::filesystem::create_directory(directory());
  }
  void TearDown() override {
    std::filesystem::remove_all(directory());
    RegistryDirectoryTest::TearDown();
  }

  std::string path_of_test_;
};

TEST_F(WatchTest, TouchIsAChangeAndNothingElse) {
  const OwnedFd file = MakeFile(path());
  const auto watch = Open(path());
  const auto other = Open(path());
  EXPECT_EQ(Taken(*watch), "");
  EXPECT_EQ(TouchFile(file.get()), 0);
  EXPECT_TRUE(IsReadable(*watch));
  EXPECT_EQ(Taken(*watch), "changed");
  EXPECT_EQ(Taken(*watch), "");
  // Nobody takes it from another.
  EXPECT_EQ(Taken(*other), "changed");
  const OwnedFd neighbour = MakeFile(path() + ".lock");
  EXPECT_EQ(Taken(*watch), "");
}

TEST_F(WatchTest, FileThatTakesThePlaceIsFollowed) {
  const OwnedFd file = MakeFile(path());
  const auto watch = Open(path());
  const OwnedFd next = MakeFile(path() + ".migrating");
  EXPECT_EQ(rename((path() + ".migrating").c_str(), path().c_str()), 0);
  EXPECT_EQ(Taken(*watch), "replaced");
  EXPECT_EQ(TouchFile(file.get()), 0);
  EXPECT_EQ(Taken(*watch), "");
  EXPECT_EQ(TouchFile(next.get()), 0);
  EXPECT_EQ(Taken(*watch), "changed");
}

TEST_F(WatchTest, FileWithoutANameIsWatchedUntilAnotherOneIsThere) {
  const OwnedFd file = MakeFile(path());
  const auto watch = Open(path());
  EXPECT_EQ(unlink(path().c_str()), 0);
  EXPECT_EQ(Taken(*watch), "replaced");
  EXPECT_EQ(TouchFile(file.get()), 0);
  EXPECT_EQ(Taken(*watch), "changed");
  const OwnedFd next = MakeFile(path());
  EXPECT_EQ(Taken(*watch), "replaced");
  EXPECT_EQ(TouchFile(next.get()), 0);
  EXPECT_EQ(Taken(*watch), "changed");
}

TEST_F(WatchTest, DirectoryThatIsNotThereIsAwaited) {
  const OwnedFd file = MakeFile(path());
  const auto watch = Open(path());
  for (int i = 0; i < 3; ++i) {
    std::filesystem::remove_all(directory());
    EXPECT_EQ(Taken(*watch), "replaced");
    const auto later = Open(path());
    std::filesystem::create_directory(directory());
    const OwnedFd next = MakeFile(path());
    EXPECT_EQ(Taken(*watch), "replaced");
    EXPECT_EQ(Taken(*later), "replaced");
    EXPECT_EQ(TouchFile(next.get()), 0);
    EXPECT_EQ(Taken(*watch), "changed");
    EXPECT_EQ(Taken(*later), "changed");
  }
}

TEST_F(WatchTest, WithoutADescriptorThereIsNone) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {0, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string problem;
  const auto watch = RegistryWatch::Open(path(), problem);
  const int error = errno;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(watch, nullptr);
  EXPECT_EQ(error, EMFILE);
  EXPECT_NE(problem.find("ulimit -n"), std::string::npos) << problem;
}

TEST_F(WatchTest, RegistryTellsItsReadersAndSaysThatItDoes) {
  auto registry = Registry::Open({.path = path()});
  ASSERT_TRUE(registry.ok()) << registry.status();
  EXPECT_FALSE((*registry)->view().tells_changes());
  const auto watch = Open(path());
  EXPECT_EQ((*registry)->TellReaders(), 0);
  EXPECT_EQ(Taken(*watch), "changed");
  EXPECT_TRUE((*registry)->view().tells_changes());
  // The next mapper may be one that does not.
  registry->reset();
  registry = Registry::Open({.path = path()});
  ASSERT_TRUE(registry.ok()) << registry.status();
  EXPECT_FALSE((*registry)->view().tells_changes());
}

}  // namespace
}  // namespace evermap
