// Tests of where registries lie.
#include "registry/location.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"
#include "registry/base/path.h"
#include "registry/directory.h"
#include "registry/registry_testing.h"
#include "registry/status.h"

namespace evermap {
namespace {

class LocationTest : public RegistryDirectoryTest {
 protected:
  // What check() says in a process with an environment of its own.
  template <typename Check>
  static bool in_child(Check check) {
    const pid_t child = fork();
    if (child == 0) _exit(check() ? 0 : 1);
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status == 0;
  }
};

TEST_F(LocationTest, RuntimeDirectoryIsThatOfTheServiceThatThisProcessIs) {
  EXPECT_TRUE(in_child([] {
    setenv("RUNTIME_DIRECTORY", "/run/one:/run/two", 1);
    setenv("SYSTEMD_EXEC_PID", std::to_string(getpid()).c_str(), 1);
    return DefaultRegistryPath(4369) == "/run/one/registry.4369";
  }));
  // Without systemd somebody has set it on purpose.
  EXPECT_TRUE(in_child([] {
    setenv("RUNTIME_DIRECTORY", "/run/one", 1);
    unsetenv("SYSTEMD_EXEC_PID");
    return DefaultRegistryPath(4369) == "/run/one/registry.4369";
  }));
  // Whatever a service has started inherits the variable, which does not speak of that.
  for (const char* executed : {"1", ""}) {
    EXPECT_TRUE(in_child([executed] {
      setenv("RUNTIME_DIRECTORY", "/run/one", 1);
      setenv("SYSTEMD_EXEC_PID", executed, 1);
      if (DefaultRegistryPath(4369) == "/run/one/registry.4369") return false;
      InheritRuntimeDirectory(/*is_meant=*/false);
      return getenv("RUNTIME_DIRECTORY") == nullptr;
    }));
  }
  // A process that such a one has started to be the mapper is meant, too.
  EXPECT_TRUE(in_child([] {
    setenv("RUNTIME_DIRECTORY", "/run/one", 1);
    setenv("SYSTEMD_EXEC_PID", "1", 1);
    InheritRuntimeDirectory(/*is_meant=*/true);
    return DefaultRegistryPath(4369) == "/run/one/registry.4369";
  }));
}

// By default, by port, in a directory of the user's that nobody else may write to.
TEST_F(LocationTest, WhereARegistryIs) {
  if (geteuid() == 0) {
    EXPECT_TRUE(in_child([] {
      setenv("RUNTIME_DIRECTORY", "", 1);
      return DefaultRegistryPath(4369) == "/run/evermap/registry.4369";
    }));
    ASSERT_EQ(chown(directory_, 64101, 64101), 0);
    EXPECT_TRUE(in_child([&] {
      unsetenv("RUNTIME_DIRECTORY");
      if (setuid(64101) != 0) return false;
      setenv("XDG_RUNTIME_DIR", directory_, 1);
      if (DefaultRegistryPath(1) != absl::StrCat(directory_, "/epmd/registry.1")) return false;
      // Not one that is somebody else's, or relative.
      for (const char* other : {"/run", "relative", ""}) {
        setenv("XDG_RUNTIME_DIR", other, 1);
        if (DefaultRegistryPath(1) != "/dev/shm/epmd-64101/registry.1") return false;
      }
      unsetenv("XDG_RUNTIME_DIR");
      return DefaultRegistryPath(1) == "/dev/shm/epmd-64101/registry.1";
    }));
    ASSERT_EQ(chown(directory_, 0, 0), 0);
  }
  const std::string directory = absl::StrCat(directory_, "/new");
  const mode_t before = umask(077);
  EXPECT_TRUE(MakeRegistryDirectory(directory + "/registry").ok());
  umask(before);
  struct stat made;
  ASSERT_EQ(stat(directory.c_str(), &made), 0);
  EXPECT_EQ(made.st_mode & 0777, 0755u);
  EXPECT_TRUE(MakeRegistryDirectory(directory + "/registry").ok());
  const auto refused = [](const std::string& path, const std::string& reason) {
    const absl::Status status = MakeRegistryDirectory(path);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(std::string(status.message()).find(reason), std::string::npos) << status;
  };
  ASSERT_EQ(chmod(directory.c_str(), 0777), 0);
  refused(directory + "/registry", "may be written by other users");
  if (geteuid() == 0) {
    ASSERT_EQ(chmod(directory.c_str(), 0755), 0);
    ASSERT_EQ(chown(directory.c_str(), 64101, 64101), 0);
    refused(directory + "/registry", "belongs to user 64101");
  }
  rmdir(directory.c_str());
  ASSERT_EQ(symlink("/tmp", directory.c_str()), 0);
  refused(directory + "/registry", "is a symbolic link");
  unlink(directory.c_str());
  Open(16);
  refused(path_ + "/registry", "is not a directory");
  refused("/nonexistent/directory/registry", "cannot be made");
  EXPECT_NE(DirectoryComplaint("/nonexistent", 0).find("cannot be examined"), std::string::npos);
}

// The system's directory may be another user's, that of the service: then root keeps its registries as
// any other user does. And of two registries of a port the one counts that a mapper has.
TEST_F(LocationTest, SystemDirectoryOfTheService) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const auto with_own_run = [](const auto& check) {
    return in_child([&] {
      unsetenv("RUNTIME_DIRECTORY");
      unsetenv("XDG_RUNTIME_DIR");
      return unshare(CLONE_NEWNS) == 0 &&
             mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
             mount("tmpfs", "/run", "tmpfs", 0, "mode=755") == 0 &&
             mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777") == 0 && check();
    });
  };
  if (!with_own_run([] { return true; })) GTEST_SKIP() << "no mounts here";
  const auto has = [](const std::string& directory) {
    return DefaultRegistryPath(4370) == directory + "/registry.4370";
  };
  const std::string of_system = "/run/evermap/registry.4370";
  const std::string of_root = "/dev/shm/epmd-0/registry.4370";
  EXPECT_TRUE(with_own_run([&] {
    if (!has("/run/evermap")) return false;
    if (mkdir("/run/evermap", 0755) != 0 || !has("/run/evermap")) return false;
    return chown("/run/evermap", 64101, 64101) == 0 && has("/dev/shm/epmd-0");
  }));
  EXPECT_TRUE(with_own_run([&] {
    const auto usual = [](Preference preference) { return UsualRegistryPath(4370, preference); };
    if (mkdir("/run/evermap", 0755) != 0 || chown("/run/evermap", 64101, 64101) != 0) return false;
    if (!MakeRegistryDirectory(of_root).ok()) return false;
    auto own = Registry::Open({.path = of_root, .capacity = 16});
    if (!own.ok() || usual(Preference::kOwn) != of_root) return false;
    // That of the service, whose mapper need not live.
    { const OwnedFd file(open(of_system.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644)); }
    if (usual(Preference::kOwn) != of_root || usual(Preference::kSystem) != of_system) return false;
    own->reset();
    return usual(Preference::kOwn) == of_system;
  }));
}

TEST(PathTest, Parts) {
  EXPECT_EQ(DirectoryOf("/a/b/c"), "/a/b");
  EXPECT_EQ(DirectoryOf("/a"), "/");
  EXPECT_EQ(DirectoryOf("a"), ".");
  EXPECT_EQ(BaseNameOf("/a/b/c"), "c");
  EXPECT_EQ(BaseNameOf("a"), "a");
}

}  // namespace
}  // namespace evermap
