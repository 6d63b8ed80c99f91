// Tests of what the mapper says of itself in the registry.
#include "registry/status.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"

namespace evermap {
namespace {

class RegistryStatusTest : public RegistryDirectoryTest {};

MapperStatus StatusOf(uint32_t number) {
  return {.pid = number,
          .start_ticks = number,
          .started_unix_ns = number,
          .workers = number,
          .version = absl::StrCat(number),
          .loop = std::string(number % kStatusLoopSizeMax, 'l'),
          .custody = std::string(number % kStatusCustodySizeMax, 'c'),
          .descriptors_max = number};
}
bool IsWhole(const MapperStatus& status) {
  const MapperStatus expected = StatusOf(status.pid);
  return status.start_ticks == expected.start_ticks &&
         status.started_unix_ns == expected.started_unix_ns && status.workers == expected.workers &&
         status.version == expected.version && status.loop == expected.loop &&
         status.custody == expected.custody && status.descriptors_max == expected.descriptors_max;
}

TEST_F(RegistryStatusTest, StatusIsKeptAndCut) {
  using Upgrade = UpgradeStatus::Outcome;
  auto registry = Open();
  EXPECT_EQ(registry->view().mapper_status().pid, 0u);
  EXPECT_EQ(registry->view().mapper_status().version, "");
  EXPECT_EQ(registry->view().upgrade_status().outcome, Upgrade::kNone);
  registry->SetMapperStatus(StatusOf(77));
  registry->SetUpgradeStatus({5, 6, Upgrade::kFailed, "a\nb\033[31m" + std::string(300, 'x')});
  registry.reset();
  std::string error;
  const auto reader = Reader::Open(path_, error);
  ASSERT_NE(reader, nullptr) << error;
  EXPECT_EQ(reader->view().mapper_status().pid, 77u);
  EXPECT_TRUE(IsWhole(reader->view().mapper_status()));
  const UpgradeStatus upgrade = reader->view().upgrade_status();
  EXPECT_EQ(upgrade.number, 5u);
  EXPECT_EQ(upgrade.unix_ns, 6);
  EXPECT_EQ(upgrade.outcome, Upgrade::kFailed);
  EXPECT_EQ(upgrade.text, ("a?b?[31m" + std::string(300, 'x')).substr(0, 255));
}

TEST_F(RegistryStatusTest, Inv3StatusSurvivesItsWriters) {
  auto registry = Open();
  registry->SetMapperStatus(StatusOf(1));
  std::mt19937 random(3);
  const int kills = Scaled(500);
  uint32_t last = 0;
  for (int i = 0; i < kills; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto victim = Registry::Open({.path = path_});
      if (!victim.ok()) _exit(1);
      for (uint32_t number = last + 1;; ++number) (*victim)->SetMapperStatus(StatusOf(number));
    }
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::microseconds(1000 + random() % 1000);
    while (std::chrono::steady_clock::now() < deadline) {
      // Never torn, and never back to an earlier one.
      const MapperStatus status = registry->view().mapper_status();
      ASSERT_TRUE(IsWhole(status));
      ASSERT_GE(status.pid, last);
      last = status.pid;
    }
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const MapperStatus left = registry->view().mapper_status();
    ASSERT_TRUE(IsWhole(left));
    ASSERT_GE(left.pid, last);
    last = left.pid;
    registry->SetMapperStatus(StatusOf(++last));
    ASSERT_EQ(registry->view().mapper_status().pid, last);
  }
}

TEST(StatusTest, ARunningProcessIsKnownByItsStart) {
  const uint64_t own_ticks = ProcessStartTicks(getpid());
  EXPECT_GT(own_ticks, 0u);
  MapperStatus status{.pid = static_cast<uint32_t>(getpid()), .start_ticks = own_ticks};
  EXPECT_TRUE(IsRunning(status));
  status.start_ticks = own_ticks + 1;
  EXPECT_FALSE(IsRunning(status));
  EXPECT_FALSE(IsRunning({}));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    pause();
    _exit(0);
  }
  status = {.pid = static_cast<uint32_t>(child), .start_ticks = ProcessStartTicks(child)};
  EXPECT_TRUE(IsRunning(status));
  kill(child, SIGKILL);
  siginfo_t ended;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(IsRunning(status)) << "a zombie";
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(IsRunning(status));
  EXPECT_EQ(ProcessStartTicks(child), 0u);
  EXPECT_EQ(ProcessStartTicks(-1), 0u);
}

}  // namespace
}  // namespace evermap
