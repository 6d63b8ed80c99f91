// Tests of migration: nothing is lost, and a death at each step or a failure of one harms nobody.
#include "registry/migration.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "registry/counters.h"
#include "registry/layout.h"
#include "registry/layout_v3.h"
#include "registry/migration_testing.h"
#include "registry/reader.h"
#include "registry/registry.h"

namespace evermap {
namespace {

using Outcome = RegisterResult::Outcome;

TEST_F(MigrationTest, Inv7NothingIsLost) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  ASSERT_GT(before.size(), 200u);
  old->Kill();
  const std::string content = ReadFile(path_);
  EXPECT_EQ(VersionOfFile(content), kOldVersion);
  EXPECT_TRUE(NeedsMigration());
  EXPECT_TRUE(FileHas(path_, content));
  // A reader of today reads the old layout as it is.
  EXPECT_EQ(DumpOf(path_), before);
  std::string error;
  const auto old_reader = Reader::Open(path_, error);
  ASSERT_EQ(link(path_.c_str(), absl::StrCat(path_, ".kept").c_str()), 0);

  auto registry = Open();
  ASSERT_NE(registry, nullptr);
  EXPECT_FALSE(NeedsMigration());
  EXPECT_EQ(DumpOf(path_), before);
  EXPECT_EQ(registry->view().capacity(), 1000u);
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    for (const WorkerStatistics* statistics :
         {&std::as_const(old_reader->view()).statistics(worker),
          static_cast<const WorkerStatistics*>(&registry->statistics(worker))}) {
      ASSERT_EQ(statistics->connections_accepted.load(), worker * 1000 + 1);
      ASSERT_EQ(statistics->connections_now.load(), worker * 1000 + 2);
      ASSERT_EQ(statistics->stored.load(), worker * 1000 + 3);
      ASSERT_EQ(statistics->latency_buckets[kLatencyBuckets - 1].load(), worker * 1000 + 4);
    }
  }
  EXPECT_EQ(registry->view().mapper_status().version, "old");
  EXPECT_EQ(registry->view().upgrade_status().number, 41u);
  EXPECT_EQ(registry->view().upgrade_status().text, "because");
  EXPECT_GT(registry->view().generation(), old_reader->view().generation());

  // The old file says where to look, and is as it was otherwise; its name goes when nobody wants it
  // back.
  EXPECT_TRUE(old_reader->view().superseded());
  EXPECT_FALSE(registry->view().superseded());
  EXPECT_EQ(Unmarked(ReadFile(absl::StrCat(path_, ".kept"))), content);
  EXPECT_TRUE(Names().contains("registry.previous"));
  registry->FinishMigration();
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.kept", "registry.lock"}));

  // Life goes on: INV-4 and INV-5.
  Registration node;
  uint64_t last_id = 0;
  registry->ForEach(Which::kAll,
                    [&](const Registration& each) { last_id = std::max(last_id, each.id); });
  for (uint32_t slot = 0; slot < 300; ++slot) {
    ASSERT_TRUE(registry->ReadSlot(slot, node));
    const std::string name(node.name());
    const RegisterResult again = registry->Register(NodeOf(name, 3, ExtraOf(3)));
    if (node.state != RegistrationState::kRemembered) {
      ASSERT_EQ(again.outcome, Outcome::kTaken);
      ASSERT_TRUE(registry->Unregister(node.slot, node.id));
    } else {
      ASSERT_EQ(again.outcome, Outcome::kRegistered);
      ASSERT_EQ(again.creation, node.creation + 1);
      ASSERT_EQ(again.slot, node.slot);
      ASSERT_GT(again.id, last_id);
    }
  }
  EXPECT_EQ(registry->Register({.name = "new"}).outcome, Outcome::kRegistered);
}

TEST_F(MigrationTest, Inv3Inv7HalfDoneOperationsAreSettled) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  ASSERT_EQ(old->Tell("half"), "ok");
  old->Kill();
  ASSERT_EQ(link(path_.c_str(), absl::StrCat(path_, ".kept").c_str()), 0);
  auto registry = Open();
  ASSERT_NE(registry, nullptr);
  // As the old code itself recovers it, except that an amendment is settled anew.
  const std::vector<std::string> migrated = DumpOf(path_);
  unlink(absl::StrCat(path_, ".lock").c_str());
  ASSERT_EQ(rename(absl::StrCat(path_, ".kept").c_str(), path_.c_str()), 0);
  const std::vector<std::string> recovered = StartOld()->Dump();
  ASSERT_EQ(migrated.size(), recovered.size());
  int departures = 0;
  for (size_t i = 0; i < migrated.size(); ++i) {
    if (migrated[i] == recovered[i]) continue;
    // The clock has gone on between the two.
    const auto without_departure = [](const std::string& line) {
      return std::pair<std::string, std::string>(line.substr(0, line.find(" left ")),
                                                 line.substr(line.find(" name ")));
    };
    EXPECT_EQ(without_departure(migrated[i]), without_departure(recovered[i]));
    ++departures;
  }
  EXPECT_EQ(departures, 2) << "unregistered and reregistering";
  const auto state_of = [&](const std::string& name) {
    std::string state = "none";
    registry->ForEach(Which::kAll, [&](const Registration& node) {
      if (node.name() == name) state = absl::StrCat(static_cast<int>(node.state));
    });
    return state;
  };
  EXPECT_EQ(state_of("amending"), "0");
  EXPECT_EQ(state_of("adopting"), "1");
  EXPECT_EQ(state_of("unregistered"), "2");
  EXPECT_EQ(state_of("reregistering"), "2");
  EXPECT_EQ(state_of("retiring"), "none");
  EXPECT_EQ(state_of("unlinked"), "none");
  for (const char* name : {"unregistered", "reregistering", "retiring", "unlinked"}) {
    EXPECT_EQ(registry->Register({.name = name}).outcome, Outcome::kRegistered) << name;
  }
}

TEST_F(MigrationTest, Inv3Inv7WritersKilledAnywhereLoseNothingInAMigration) {
  const std::string log_path = absl::StrCat(path_, ".log");
  std::mt19937 random(11);
  const int rounds = Scaled(150);
  for (int round = 0; round < rounds; ++round) {
    unlink(path_.c_str());
    WriteFile(log_path, std::string(sizeof(VictimLog), '\0'));
    const int fd = open(log_path.c_str(), O_RDWR | O_CLOEXEC);
    void* memory = mmap(nullptr, sizeof(VictimLog), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    ASSERT_NE(memory, MAP_FAILED);
    auto* log = static_cast<VictimLog*>(memory);
    log->pending = kVictimNames;
    {
      OldMapper victim({path_, log_path, absl::StrCat(random() % 10000)});
      const uint64_t operations = 50 + random() % 200;
      while (log->operations.load() < operations) {
      }
      for (volatile unsigned spin = static_cast<unsigned>(random() % 3000); spin > 0;)
        spin = spin - 1;
    }
    auto registry = Open();
    ASSERT_NE(registry, nullptr);
    Registration found;
    for (size_t n = 0; n < kVictimNames; ++n) {
      const std::string name = VictimName(n);
      const bool is_found = registry->Lookup(name, found);
      ASSERT_TRUE(!is_found || IsWhole(found, name)) << name;
      if (log->pending.load() == n && !log->keeps.load()) continue;
      ASSERT_EQ(is_found, log->id[n].load() != 0) << name;
      if (!is_found) {
        ASSERT_GT(registry->Register({.name = name}).creation, log->creation_last[n].load());
        continue;
      }
      ASSERT_EQ(found.id, log->id[n].load());
      ASSERT_EQ(found.slot, log->slot[n].load());
      ASSERT_EQ(found.creation, log->creation[n].load());
    }
    munmap(memory, sizeof(VictimLog));
  }
}

TEST_F(MigrationTest, Inv7AMigrationMayBeKilledAtEachStep) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  old->Kill();
  const std::string content = ReadFile(path_);
  int crashes = 0;
  for (int step = 1; step <= kStepsMax; ++step) {
    unlink(path_.c_str());
    WriteFile(path_, content);
    if (!OpenAndCrash(step)) continue;
    ++crashes;
    const std::string left = ReadFile(path_);
    if (step <= 7) {
      EXPECT_EQ(left, content) << step;
    } else {
      EXPECT_EQ(VersionOfFile(left), kNewVersion) << step;
    }
    EXPECT_EQ(DumpOf(path_), before) << step;
    // A reader that has had the old one open all the time.
    std::string error;
    const auto reader = Reader::Open(step <= 7 ? path_ : PreviousPath(path_), error);
    ASSERT_NE(reader, nullptr) << error;
    const auto registry = Open();
    ASSERT_NE(registry, nullptr);
    registry->FinishMigration();
    EXPECT_EQ(DumpOf(path_), before) << step;
    EXPECT_TRUE(reader->view().superseded()) << step;
    EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"})) << step;
  }
  EXPECT_EQ(crashes, 9);
}

TEST_F(MigrationTest, NeedsMigrationTellsWhatOpenWould) {
  EXPECT_FALSE(NeedsMigration());
  EXPECT_EQ(Names(), (std::set<std::string>{}));
  ASSERT_NE(Open(), nullptr);
  EXPECT_FALSE(NeedsMigration());
  std::string content = ReadFile(path_);
  for (const auto& [at, value] :
       std::initializer_list<std::pair<size_t, char>>{{0, 'X'}, {8, 9}, {8, 0}, {24, 1}, {8, 2}}) {
    std::string damaged = content;
    damaged[at] = value;
    WriteFile(path_, damaged);
    const auto needs = Registry::NeedsMigration(path_);
    EXPECT_EQ(needs.status().code(), absl::StatusCode::kFailedPrecondition) << at;
    EXPECT_EQ(needs.status(), Registry::Open({.path = path_}).status());
    EXPECT_TRUE(FileHas(path_, damaged));
  }
}

TEST_F(MigrationTest, WithoutRoomTheOldFileStays) {
  StartOld()->Tell("fill");
  const std::string content = ReadFile(path_);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 18, 1 << 18};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto registry = Registry::Open({.path = path_});
    _exit(registry.ok() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(FileHas(path_, content));
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
}

// In a file system of its own, with a little more room each time, until there is enough.
TEST_F(MigrationTest, WithoutMemoryTheOldFileStays) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  StartOld()->Tell("fill");
  const std::string content = ReadFile(path_);
  unlink(absl::StrCat(path_, ".lock").c_str());
  constexpr int kNoMounts = 77;
  constexpr int kFailuresMin = 3;  // the start of the file, the records, the long names
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr)) {
      _exit(kNoMounts);
    }
    const auto check = [&](const std::string& options, bool& opened) {
      if (mount("tmpfs", directory_, "tmpfs", 0, options.c_str()) != 0) _exit(kNoMounts);
      WriteFile(path_, content);
      const ino_t inode = Inode(path_);
      const auto registry = Registry::Open({.path = path_});
      opened = registry.ok();
      if (opened) return true;
      const bool is_kept = Inode(path_) == inode && !Names().contains("registry.migrating") &&
                           !Names().contains("registry.previous");
      umount(directory_);
      return is_kept && absl::IsResourceExhausted(registry.status());
    };
    bool opened = false;
    // Names for the directory and the file; for the lock, too; and for the new file.
    for (const int names : {2, 3}) {
      if (!check(absl::StrCat("nr_inodes=", names), opened) || opened) _exit(1);
    }
    const size_t needed_kib = content.size() / 1024;
    constexpr size_t kStepKib = 32;
    int failures = 0;
    for (size_t more_kib = 0; !opened; more_kib += kStepKib) {
      if (!check(absl::StrCat("size=", needed_kib + more_kib, "k"), opened)) _exit(2);
      failures += opened ? 0 : 1;
    }
    _exit(failures >= kFailuresMin ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNoMounts) GTEST_SKIP() << "no mounts here";
  EXPECT_EQ(status, 0);
}

// What is in the way of a step, as nobody else should put it there.
std::string g_in_the_way;

TEST_F(MigrationTest, StepsThatFail) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::string content = ReadFile(path_);
  // The old file cannot get its second name.
  g_in_the_way = path_ + ".previous";
  SetMigrationHookForTests([](int step) {
    if (step == 6) mkdir(g_in_the_way.c_str(), 0755);
  });
  const auto unnamed = Registry::Open({.path = path_});
  EXPECT_NE(std::string(unnamed.status().message()).find("cannot be named"), std::string::npos)
      << unnamed.status();
  rmdir(g_in_the_way.c_str());
  EXPECT_TRUE(FileHas(path_, content));
  // The new file is not there any more.
  g_in_the_way = path_ + ".migrating";
  SetMigrationHookForTests([](int step) {
    if (step == 7) unlink(g_in_the_way.c_str());
  });
  const auto gone = Registry::Open({.path = path_});
  EXPECT_NE(std::string(gone.status().message()).find("cannot take its place"), std::string::npos)
      << gone.status();
  EXPECT_TRUE(FileHas(path_, content));
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  SetMigrationHookForTests(nullptr);
  // Taken back while there is another file of the name that the newer one should get.
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  SetMigrationHookForTests([](int step) {
    if (step == 1) WriteFile(g_in_the_way, "");
  });
  EXPECT_TRUE(fresh->RollBackOwnMigration().ok());
  SetMigrationHookForTests(nullptr);
  EXPECT_EQ(VersionOfFile(ReadFile(path_)), kOldVersion);
  EXPECT_EQ(old->Tell("superseded"), "no");
}

TEST_F(MigrationTest, AfterARebootNamesAreRemembered) {
  StartOld()->Tell("fill");
  std::string content = ReadFile(path_);
  content[layout_v3::kDescription.header.boot_id] ^= 1;
  WriteFile(path_, content);
  auto registry = Open();
  int remembered = 0;
  registry->ForEach(Which::kAll, [&](const Registration& node) {
    EXPECT_EQ(node.state, RegistrationState::kRemembered);
    ++remembered;
  });
  EXPECT_EQ(remembered, 300);
}

TEST_F(MigrationTest, Inv6DamagedOldSegmentsHarmNobody) {
  auto old = StartOld();
  old->Tell("fill");
  old->Tell("half");
  old->Kill();
  const std::string intact = ReadFile(path_);
  const layout::Geometry geometry = layout_v3::GeometryFor(1000);
  std::mt19937 random(5);
  const int rounds = Scaled(300);
  for (int i = 0; i < rounds; ++i) {
    std::string damaged = intact;
    const uint64_t begin = i % 4 == 0   ? 0
                           : i % 4 == 1 ? geometry.buckets_offset
                                        : geometry.extents_offset;
    const uint64_t size = i % 4 == 0   ? layout_v3::kHeaderSize
                          : i % 4 == 1 ? geometry.buckets * 8
                                       : damaged.size() - geometry.extents_offset;
    const auto flips = 1 + random() % 300;
    for (uint64_t flip = 0; flip < flips; ++flip) {
      char& byte = damaged[begin + random() % size];
      byte = static_cast<char>(byte ^ (1 << random() % 8));
    }
    unlink(path_.c_str());
    WriteFile(path_, damaged);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(60);
      auto registry = Registry::Open({.path = path_});
      if (!registry.ok()) _exit(0);
      Registration found;
      for (int n = 0; n < 100; ++n) {
        const std::string name = absl::StrCat("node", n, std::string(static_cast<size_t>(n), 'n'));
        (*registry)->Lookup(name, found);
        const RegisterResult node = (*registry)->Register({.name = name});
        (*registry)->Unregister(node.slot, node.id);
      }
      (*registry)->ForEach(Which::kAll, [](const Registration&) {});
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0) << "round " << i;
  }
}

}  // namespace
}  // namespace evermap
