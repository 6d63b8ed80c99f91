// Tests of what a registry costs and takes (P11): the file is as large as what is used, and has no
// holes; names that left are forgotten, texts that do not fit into records are few, and time is steady.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/base/clock.h"
#include "registry/departure.h"
#include "registry/layout.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/segment.h"
#include "registry/slab.h"

namespace evermap {
namespace {

using Outcome = RegisterResult::Outcome;

constexpr int kNoMounts = 77;  // exit code of a child that may not mount

class GrowthTest : public RegistryDirectoryTest {
 protected:
  struct Size {
    uint64_t bytes = 0;
    uint64_t memory = 0;
  };
  Size SizeNow() const {
    struct stat file = {};
    EXPECT_EQ(stat(path_.c_str(), &file), 0);
    return {static_cast<uint64_t>(file.st_size), static_cast<uint64_t>(file.st_blocks) * 512};
  }
  // Size of the file of `capacity` names with so many extents.
  static uint64_t SizeWith(uint32_t capacity, uint64_t extents) {
    return layout::GeometryFor(capacity).extents_offset + extents * layout::kExtentSize;
  }
  // Lets nodes of names of their own come and leave, one after the other; how many were refused.
  static int ComeAndGo(Registry& registry, const std::string& prefix, int count,
                       const std::string& suffix = "", const std::string& extra = "") {
    int refused = 0;
    for (int i = 0; i < count; ++i) {
      const std::string name = absl::StrCat(prefix, i, suffix);
      const RegisterResult node = registry.Register({.name = name, .extra = extra});
      if (node.outcome != Outcome::kRegistered || !registry.Unregister(node.slot, node.id)) {
        ++refused;
      }
    }
    return refused;
  }
  // Runs `check` in a process with a file system of its own on the test's directory; what it returns
  // is 0 when all is well.
  template <typename Check>
  void OnFileSystem(const char* type, const char* options, const Check& check) {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      if (unshare(CLONE_NEWNS) != 0 ||
          mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          mount(type, directory_, type, 0, options) != 0) {
        _exit(kNoMounts);
      }
      _exit(check());
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kNoMounts) GTEST_SKIP() << "no mounts here";
    EXPECT_EQ(status, 0);
  }
  uint64_t FreeBytes() const {
    struct statvfs state = {};
    return statvfs(directory_, &state) == 0 ? uint64_t{state.f_bavail} * state.f_frsize : 0;
  }
};

TEST_F(GrowthTest, P11TheFileIsAsLargeAsWhatIsUsed) {
  constexpr uint32_t kCapacity = 1'000'000;
  auto registry = Open(kCapacity);
  EXPECT_EQ(SizeNow().bytes, SizeWith(kCapacity, 1));
  EXPECT_LT(SizeNow().bytes, 1u << 20);
  // A reader that knows nothing of what comes.
  std::string error;
  const auto reader = Reader::Open(path_, error);
  ASSERT_NE(reader, nullptr) << error;
  Registration found;
  for (int i = 0; i < 1000; ++i) {
    const std::string name = absl::StrCat("node", i);
    ASSERT_EQ(registry->Register(NodeOf(name, 1, ExtraOf(1))).outcome, Outcome::kRegistered);
    ASSERT_TRUE(reader->view().Lookup(name, found)) << name;
    ASSERT_TRUE(IsWhole(found, name));
    if (i == 255) {
      EXPECT_EQ(SizeNow().bytes, SizeWith(kCapacity, 1));
    }
    if (i == 256) {
      EXPECT_EQ(SizeNow().bytes, SizeWith(kCapacity, 2));
    }
  }
  EXPECT_EQ(reader->view().CountLive(), 1000u);
  EXPECT_EQ(SizeNow().bytes, SizeWith(kCapacity, 4));
  EXPECT_GE(SizeNow().memory, SizeNow().bytes) << "there are holes, which readers would fill";
  // One more extent for texts.
  ASSERT_EQ(registry->Register(NodeOf("long", 7, ExtraOf(7))).outcome, Outcome::kRegistered);
  EXPECT_EQ(SizeNow().bytes, SizeWith(kCapacity, 5));
  EXPECT_GE(SizeNow().memory, SizeNow().bytes);
  ASSERT_TRUE(reader->view().Lookup("long", found));
  EXPECT_TRUE(IsWhole(found, "long"));
  // The next record is behind it.
  ASSERT_EQ(ComeAndGo(*registry, "more", 200), 0);
  ASSERT_TRUE(reader->view().Lookup("long", found));
  registry = Open();
  ASSERT_TRUE(registry->Lookup("node999", found));
  EXPECT_EQ(registry->live_count(), 1001u);
}

TEST_F(GrowthTest, P11NamesThatLeftAreForgotten) {
  auto registry = Open(kRegistryCapacityDefault);
  for (int i = 0; i < 5; ++i) registry->Register({.name = absl::StrCat("live", i)});
  const RegisterResult before = registry->Register({.name = "before"});
  registry->Unregister(before.slot, before.id);
  EXPECT_EQ(ComeAndGo(*registry, "n", 3 * static_cast<int>(kRememberedMin)), 0);
  const uint32_t used = registry->view().slots_used();
  EXPECT_LE(used, kRememberedMin + 64);
  EXPECT_EQ(registry->live_count(), 5u);
  std::set<std::string> names;
  registry->ForEach(Which::kRegistered,
                    [&](const Registration& node) { names.emplace(node.name()); });
  EXPECT_EQ(names, (std::set<std::string>{"live0", "live1", "live2", "live3", "live4"}));
  // INV-5 all the same.
  EXPECT_GT(registry->Register({.name = "before"}).creation, before.creation);
  // Those that left last are remembered.
  size_t late = 0;
  registry->ForEach(Which::kAll, [&](const Registration& node) {
    const std::string name(node.name());
    if (name[0] == 'n' && atoi(name.c_str() + 1) >= 2 * static_cast<int>(kRememberedMin)) ++late;
  });
  EXPECT_GT(late, kRememberedMin / 2);
}

TEST_F(GrowthTest, P11AsManyNamesAreRememberedAsLive) {
  auto registry = Open(kRegistryCapacityDefault);
  constexpr int kLive = 6000;
  for (int i = 0; i < kLive; ++i) {
    ASSERT_EQ(registry->Register({.name = absl::StrCat("live", i)}).outcome, Outcome::kRegistered);
  }
  EXPECT_EQ(ComeAndGo(*registry, "n", 20'000), 0);
  EXPECT_GE(registry->view().slots_used(), kLive + kRememberedMin);
  EXPECT_LE(registry->view().slots_used(), 2 * kLive + 1000);
  EXPECT_EQ(registry->live_count(), static_cast<uint32_t>(kLive));
}

TEST_F(GrowthTest, P11LongNamesThatLeftTakeNoMemory) {
  auto registry = Open(kRegistryCapacityDefault);
  const std::string extra(1020, 'e');
  const std::string suffix(1000, 's');
  EXPECT_EQ(ComeAndGo(*registry, "n", 2000, suffix, extra), 0);
  EXPECT_LE(SizeNow().bytes, SizeWith(kRegistryCapacityDefault, 9));
  const uint64_t before = SizeNow().bytes;
  EXPECT_EQ(ComeAndGo(*registry, "m", 2000, "", extra), 0);
  EXPECT_LE(SizeNow().bytes, before + 8 * layout::kExtentSize) << "records alone";

  // Live ones keep theirs, whatever comes and goes.
  constexpr uint16_t kLive = 100;
  std::map<std::string, RegisterResult> live;
  for (uint16_t i = 0; i < kLive; ++i) {
    const std::string name = absl::StrCat("live", i, i % 2 == 0 ? suffix : "");
    live[name] = registry->Register(NodeOf(name, 7, ExtraOf(7)));
    ASSERT_EQ(live[name].outcome, Outcome::kRegistered);
    if (i % 3 == 0) registry->Orphan(live[name].slot, live[name].id);
    ASSERT_EQ(ComeAndGo(*registry, absl::StrCat("o", i, "-"), 20, suffix, extra), 0);
  }
  Registration found;
  for (const auto& [name, node] : live) {
    ASSERT_TRUE(registry->Lookup(name, found));
    EXPECT_TRUE(IsWhole(found, name));
    EXPECT_EQ(found.id, node.id);
  }
  // All at once, as many as there may be.
  for (const auto& [name, node] : live) EXPECT_TRUE(registry->Unregister(node.slot, node.id));
  registry.reset();
  unlink(path_.c_str());
  registry = Open(100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(registry->Register({.name = absl::StrCat(i, suffix), .extra = extra}).outcome,
              Outcome::kRegistered);
  }
}

// Writers that want the same block at once do not make the file longer for it.
TEST_F(GrowthTest, P11ManyWritersOfLongNames) {
  constexpr size_t kThreads = 4;
  constexpr size_t kNames = 2000;
  // Each thread has one long name at a time, so their blocks fit into one extent; a second one may come
  // when two find no extent yet. Names that left have records until there are kRememberedMin.
  constexpr uint64_t kExtents = 2 + kRememberedMin / layout::kExtentRecords + 1;
  auto registry = Open(65'536);
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (size_t i = 0; i < kNames; ++i) {
        const RegisterResult node =
            registry->Register({.name = absl::StrCat(thread, "-", i, "-", std::string(200, 'n'))});
        EXPECT_EQ(node.outcome, Outcome::kRegistered);
        EXPECT_TRUE(registry->Unregister(node.slot, node.id));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(SizeNow().bytes, SizeWith(65'536, kExtents));
}

TEST_F(GrowthTest, P11AFullFileSystemRefusesNamesAndNothingElse) {
  OnFileSystem("tmpfs", "size=4M,mode=755", [&] {
    auto registry = Open(kRegistryCapacityDefault);
    if (registry == nullptr) return 1;
    int registered = 0;
    while (registry->Register({.name = absl::StrCat("node", registered)}).outcome ==
           Outcome::kRegistered) {
      ++registered;
    }
    // 64 KiB, the 64th part, are left to others.
    if (registered < 5000 || FreeBytes() < (64 << 10) || FreeBytes() > (256 << 10)) return 2;
    Registration found;
    for (int i = 0; i < registered; ++i) {
      if (!registry->Lookup(absl::StrCat("node", i), found)) return 3;
    }
    // A long name finds no block, and leaves nothing behind.
    if (registry->Register({.name = std::string(900, 'l')}).outcome != Outcome::kFull) return 4;
    // A name that comes back needs nothing, ...
    registry->Lookup("node0", found);
    if (!registry->Unregister(found.slot, found.id)) return 5;
    if (registry->Register({.name = "node0", .extra = std::string(900, 'e')}).outcome !=
        Outcome::kFull) {
      return 6;
    }
    if (registry->Register({.name = "node0"}).outcome != Outcome::kRegistered) return 7;
    // ... and one that left makes room.
    registry->Lookup("node1", found);
    if (!registry->Unregister(found.slot, found.id)) return 8;
    if (registry->Register({.name = "another"}).outcome != Outcome::kRegistered) return 9;
    if (mount(nullptr, directory_, nullptr, MS_REMOUNT, "size=8M") != 0) return 10;
    if (registry->Register({.name = std::string(900, 'l')}).outcome != Outcome::kRegistered) {
      return 11;
    }
    return 0;
  });
}

// A ramfs cannot be asked for memory.
TEST_F(GrowthTest, P11AFileSystemThatCannotGiveMemoryBeforehand) {
  OnFileSystem("ramfs", "mode=755", [&] {
    auto registry = Open(2000);
    if (registry == nullptr) return 1;
    auto other = Open(2000);
    for (size_t i = 0; i < 2000; ++i) {
      Registry& writer = i % 2 == 0 ? *registry : *other;
      if (writer.Register({.name = absl::StrCat("node", i), .extra = std::string(i % 200, 'e')})
              .outcome != Outcome::kRegistered) {
        return 2;
      }
    }
    Registration found;
    for (size_t i = 0; i < 2000; ++i) {
      if (!registry->Lookup(absl::StrCat("node", i), found)) return 3;
      if (found.extra() != std::string(i % 200, 'e')) return 4;
    }
    return registry->Register({.name = "more"}).outcome == Outcome::kFull ? 0 : 5;
  });
}

// While others come and leave in the same words of occupancy, those that stay are never missing.
TEST_F(GrowthTest, L14WhoStaysIsAlwaysListed) {
  auto registry = Open(96);
  constexpr int kThreads = 3;
  const int rounds = Scaled(30'000);
  std::atomic<int> missing{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < rounds; ++i) {
        const std::string name = absl::StrCat("n", t, "-", i % 7);
        const RegisterResult node = registry->Register({.name = name});
        if (node.outcome != Outcome::kRegistered) {
          missing.fetch_add(1);
          continue;
        }
        // The one that was just registered is listed until it is ended.
        bool is_listed = false;
        registry->ForEach(Which::kRegistered,
                          [&](const Registration& each) { is_listed |= each.id == node.id; });
        if (!is_listed) missing.fetch_add(1);
        registry->Orphan(node.slot, node.id);
        registry->Unregister(node.slot, node.id);
      }
    });
  }
  for (int i = 0; i < 20; ++i) registry->Register({.name = absl::StrCat("stays", i)});
  threads.emplace_back([&] {
    while (!done.load()) {
      int stay = 0;
      registry->ForEach(Which::kRegistered, [&](const Registration& each) {
        if (each.name().starts_with("stays")) ++stay;
      });
      if (stay != 20 || registry->live_count() < 20) missing.fetch_add(1);
    }
  });
  for (int t = 0; t < kThreads; ++t) threads[static_cast<size_t>(t)].join();
  done = true;
  threads.back().join();
  EXPECT_EQ(missing.load(), 0);
  EXPECT_EQ(registry->live_count(), 20u);
  EXPECT_EQ(registry->view().CountLive(), 20u);
}

// A walk in steps of any size meets each registration once.
TEST_F(GrowthTest, WalksGoOnWhereTheyStopped) {
  auto registry = Open(2000);
  std::set<uint64_t> live;
  std::set<uint64_t> all;
  for (int i = 0; i < 1500; ++i) {
    const RegisterResult node = registry->Register({.name = absl::StrCat("node", i)});
    all.insert(node.id);
    if (i % 100 < 3 || i > 1490) {
      live.insert(node.id);
    } else {
      registry->Unregister(node.slot, node.id);
    }
  }
  for (const Which which : {Which::kRegistered, Which::kAll}) {
    for (const uint32_t step : {1u, 2u, 7u, 64u, 5000u}) {
      std::set<uint64_t> met;
      uint32_t steps = 0;
      std::optional<uint32_t> at = 0;
      while (at.has_value()) {
        ASSERT_LT(++steps, 2000u);
        at = registry->ForEachOf(which, *at, step, [&](const Registration& node) {
          EXPECT_TRUE(met.insert(node.id).second);
        });
      }
      EXPECT_EQ(met, which == Which::kAll ? all : live) << step;
    }
  }
}

// Files that lack extents that their records would be in.
TEST_F(GrowthTest, Inv6ACutFileHarmsNobody) {
  {
    auto registry = Open(2000);
    for (uint16_t i = 0; i < 1000; ++i) {
      registry->Register(NodeOf(absl::StrCat("node", i), i, ExtraOf(i)));
    }
  }
  const std::string intact = ReadFile(path_);
  const uint64_t front = layout::GeometryFor(2000).extents_offset;
  const uint64_t extents = (intact.size() - front) / layout::kExtentSize;
  for (uint64_t left = 1; left < extents; ++left) {
    unlink(path_.c_str());
    WriteFile(path_, intact.substr(0, front + left * layout::kExtentSize + 100 * left));
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(60);
      UseEverything(path_);
      std::string error;
      const auto reader = Reader::Open(path_, error);
      Registration found;
      for (int i = 0; i < 1000; ++i) reader->view().Lookup(absl::StrCat("node", i), found);
      for (uint32_t slot = 0; slot < 3000; ++slot) reader->view().ReadSlot(slot, found);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0) << left << " extents";
  }
}

constexpr uint64_t kYearNs = uint64_t{365} * 86'400 * kNsPerSecond;

TEST_F(GrowthTest, L7AClockThatWasAheadDecidesNothing) {
  auto registry = Open();
  const RegisterResult first = registry->Register({.name = "first"});
  const RegisterResult second = registry->Register({.name = "second"});
  Problem problem;
  const auto segment = Segment::Map(path_, SegmentAccess::kWrite, problem);
  // The registry was made when the clock was ten years ahead.
  layout::Word& offset = segment->header().steady_offset;
  offset.store(offset.load() + 10 * kYearNs);
  ASSERT_TRUE(registry->Orphan(first.slot, first.id));
  ASSERT_TRUE(registry->Unregister(second.slot, second.id));
  Registration found;
  ASSERT_TRUE(registry->ReadSlot(first.slot, found));
  // How long it has waited is known, and what is shown is by the clock of now.
  EXPECT_LT(registry->view().SteadyNs() - found.departure, uint64_t{60} * kNsPerSecond);
  EXPECT_NEAR(static_cast<double>(found.left_unix_ns), static_cast<double>(UnixNs()),
              60.0 * kNsPerSecond);
  const uint64_t departure = found.departure;
  ASSERT_TRUE(registry->ReadSlot(second.slot, found));
  EXPECT_GT(found.departure, departure);
  // The next boot has a clock that is right.
  registry.reset();
  segment->header().boot_id[0].store(1);
  registry = Open();
  EXPECT_LT(registry->view().SteadyNs(), static_cast<uint64_t>(UnixNs()) + kYearNs);
  ASSERT_TRUE(registry->ReadSlot(first.slot, found));
  EXPECT_EQ(found.state, RegistrationState::kRemembered);
  const uint64_t first_departure = found.departure;
  EXPECT_LT(first_departure, registry->view().SteadyNs() + kNsPerSecond);
  ASSERT_TRUE(registry->ReadSlot(second.slot, found));
  EXPECT_LT(found.departure, registry->view().SteadyNs() + kNsPerSecond);
  EXPECT_NE(found.departure, first_departure);
  const RegisterResult third = registry->Register({.name = "third"});
  registry->Orphan(third.slot, third.id);
  ASSERT_TRUE(registry->ReadSlot(third.slot, found));
  EXPECT_GT(found.departure, first_departure);
  EXPECT_LT(found.departure, registry->view().SteadyNs() + kNsPerSecond);
}

}  // namespace
}  // namespace evermap
