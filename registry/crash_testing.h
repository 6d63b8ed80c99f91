// The fixture of the crash tests (registry_crash_test.cc): what is made before a crash, what dies, and
// what must hold afterwards.
#ifndef EVERMAP_REGISTRY_CRASH_TESTING_H_
#define EVERMAP_REGISTRY_CRASH_TESTING_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"
#include "registry/base/path.h"
#include "registry/crash_hooks_testing.h"
#include "registry/layout.h"
#include "registry/occupancy.h"
#include "registry/reader.h"
#include "registry/recovery.h"
#include "registry/registry.h"
#include "registry/segment.h"
#include "registry/status.h"

namespace evermap {

// Without what depends on the time, and what is not remembered.
inline std::string DescribeStable(Registration node) {
  node.left_unix_ns = 0;
  node.departure = 0;
  if (node.state == RegistrationState::kRemembered) node.extra_size = 0;
  return Describe(node);
}

using Facts = std::map<std::string, Registration>;  // by name

// Highest creation that anybody can have seen of each name.
using Creations = std::map<std::string, uint32_t>;
inline void Note(const Facts& facts, Creations& creations) {
  for (const auto& [name, node] : facts) {
    creations[name] = std::max(creations[name], node.creation);
  }
}

struct Scenario {
  std::string name;
  uint32_t capacity = 4;
  // Makes the state before, and may set what follows.
  std::function<void(Registry&, Scenario&)> prepare;
  // What another writer leaves half done that dies now; null: nothing.
  std::function<void(const Scenario&)> leave = {};
  // What dies. In a process of its own, with the registry opened there before `leave`.
  std::function<void(Registry&, const Scenario&)> act = {};
  // Whether the name that it is about may then be as it is; null: not there.
  std::function<bool(const Scenario&, const Registration* before, const Registration* now,
                     bool is_complete)>
      may_be = {};
  std::string own = "own";  // that name
  RegisterResult target = {};
  // Remembered names of which one may be forgotten.
  std::set<std::string> victims = {};
};

// A writer that is to die, and from when on its crash points count.
struct Victim {
  enum class From { kAct, kOpen };
  From from = From::kOpen;
  std::function<void()> leave = [] {};
  std::function<void(Registry&)> act = [](Registry&) {};
};
// REQUIRES: `scenario` outlives the victim.
inline Victim VictimOf(const Scenario& scenario) {
  return {Victim::From::kAct,
          [&scenario] {
            if (scenario.leave) scenario.leave(scenario);
          },
          [&scenario](Registry& registry) { scenario.act(registry, scenario); }};
}

class RegistryCrashTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { InstallHooks(); }

  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = absl::StrCat(directory_, "/registry");
  }
  void TearDown() override {
    Remove();
    EXPECT_EQ(rmdir(directory_), 0);
    std::cout << "    " << points_ << " points, " << runs_ << " runs\n";
    RecordProperty("points", std::to_string(points_));
  }

  // The files of a registry.
  using Image = std::map<std::string, std::string>;
  static constexpr const char* kSuffixes[] = {"", ".previous", ".migrating"};

  void Remove() const {
    for (const char* suffix : kSuffixes) unlink(absl::StrCat(path_, suffix).c_str());
    unlink(absl::StrCat(path_, ".lock").c_str());
  }
  Image Save() const {
    Image image;
    for (const char* suffix : kSuffixes) {
      const OwnedFd fd(open(absl::StrCat(path_, suffix).c_str(), O_RDONLY | O_CLOEXEC));
      struct stat file;
      if (!fd.valid() || fstat(fd.get(), &file) != 0) continue;
      std::string content(static_cast<size_t>(file.st_size), '\0');
      EXPECT_EQ(read(fd.get(), content.data(), content.size()), file.st_size);
      image[suffix] = std::move(content);
    }
    return image;
  }
  void Restore(const Image& image) const {
    Remove();
    static const std::string zeros(kPage, '\0');
    for (const auto& [suffix, content] : image) {
      const OwnedFd fd(
          open(absl::StrCat(path_, suffix).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      ASSERT_EQ(ftruncate(fd.get(), static_cast<off_t>(content.size())), 0);
      for (size_t at = 0; at < content.size(); at += kPage) {
        if (content.compare(at, kPage, zeros) == 0) continue;
        ASSERT_EQ(pwrite(fd.get(), content.data() + at, kPage, static_cast<off_t>(at)),
                  static_cast<ssize_t>(kPage));
      }
    }
  }

  std::unique_ptr<Registry> Open(uint32_t capacity = 4) const {
    auto registry = Registry::Open({.path = path_, .capacity = capacity});
    EXPECT_TRUE(registry.ok()) << registry.status();
    return registry.ok() ? *std::move(registry) : nullptr;
  }
  std::unique_ptr<Segment> Map(SegmentAccess access = SegmentAccess::kRead) const {
    Problem problem;
    auto segment = Segment::Map(path_, access, problem);
    EXPECT_NE(segment, nullptr) << problem.message;
    return segment;
  }

  // A name of at least `size` bytes that shares its bucket with all that this gives; the registry
  // is there.
  std::string Colliding(int number, size_t size = 0) const {
    const auto segment = Map();
    for (int attempt = 0;; ++attempt) {
      std::string name = absl::StrCat("n", number, "-", attempt, "-");
      name.append(size > name.size() ? size - name.size() : 0, 'x');
      if (segment->BucketOf(HashName(segment->hash_key(), name)) == 0) return name;
    }
  }

  // The facts that readers see, by name.
  Facts Look() const {
    std::string error;
    const auto reader = Reader::Open(path_, error);
    EXPECT_NE(reader, nullptr) << error;
    Facts facts;
    Registration node;
    for (uint32_t slot = 0; slot < reader->view().slots_used(); ++slot) {
      if (!reader->view().ReadSlot(slot, node)) continue;
      EXPECT_TRUE(facts.emplace(std::string(node.name()), node).second)
          << "two records have the name " << node.name();
      Registration found;
      const bool is_found = reader->view().Lookup(node.name(), found);
      EXPECT_EQ(is_found, node.state != RegistrationState::kRemembered) << node.name();
      if (is_found) {
        EXPECT_EQ(Describe(found), Describe(node));
      }
    }
    return facts;
  }

  // Moves a record on as a writer that is dead by now did.
  void LeaveClaimed(uint32_t slot, layout::Kind kind, uint32_t claimant = kDeadWriter) const {
    const auto segment = Map(SegmentAccess::kWrite);
    layout::Word& state = segment->record(slot).state;
    state.store(layout::NextState(state.load(), kind, claimant));
  }
  // See kCreationLead.
  void MoveCreationsAhead() const {
    const auto segment = Map(SegmentAccess::kWrite);
    for (uint32_t slot = 0; slot < segment->high_water(); ++slot) {
      layout::Word& address = segment->record(slot).address;
      address.store(address.load() + kCreationLead * (slot + 1));
    }
  }

  // What must hold in any segment at any time; `is_settled`: when no writer is in the middle of
  // something.
  void CheckStructure(bool is_settled) const {
    const auto segment = Map();
    const uint32_t used = segment->high_water();
    std::set<uint32_t> linked;
    std::set<std::string> names;
    NameBuffer buffer;
    for (uint32_t bucket = 0; bucket < segment->geometry().buckets; ++bucket) {
      for (uint64_t link = segment->bucket(bucket).load(); !layout::IsEnd(link);) {
        const uint32_t index = layout::IndexOf(link);
        ASSERT_LT(index, used) << "INV-6: a link leads nowhere";
        ASSERT_TRUE(linked.insert(index).second) << "a record is linked twice";
        const layout::Record& record = segment->record(index);
        EXPECT_EQ(segment->BucketOf(record.hash.load()), bucket);
        const auto name = IntactName(*segment, index, buffer);
        ASSERT_TRUE(name.has_value()) << "L-3: a name changed while it was linked";
        if (layout::KindOf(record.state.load()) != layout::Kind::kRetiring) {
          EXPECT_TRUE(names.insert(std::string(*name)).second) << "L-5: " << *name;
        }
        link = record.next.load();
        if (is_settled) {
          EXPECT_FALSE(layout::IsMarked(link));
        }
      }
    }
    std::set<uint64_t> ids;
    std::set<uint64_t> departures;
    std::set<uint64_t> blocks;
    for (uint32_t index = 0; index < segment->extents().slots(); ++index) {
      const layout::Record& record = segment->record(index);
      const layout::Kind kind = layout::KindOf(record.state.load());
      const bool is_occupied =
          ((OccupiedAmong(*segment, index) >> (index % layout::kSlotsPerWord)) & 1) != 0;
      EXPECT_TRUE(is_occupied || !layout::IsFound(kind)) << "L-14: slot " << index;
      if (index >= used) {
        EXPECT_EQ(kind, layout::Kind::kFree);
      }
      if (is_settled) {
        EXPECT_FALSE(layout::HasClaimant(kind)) << "slot " << index;
      }
      if (kind == layout::Kind::kFree) {
        EXPECT_EQ(linked.count(index), 0u) << "slot " << index;
      }
      if (layout::IsFound(kind) || kind == layout::Kind::kRemembered) {
        EXPECT_EQ(linked.count(index), 1u) << "slot " << index;
        EXPECT_TRUE(ids.insert(record.id.load()).second) << "INV-4";
        EXPECT_LE(record.id.load(), segment->header().next_id.load()) << "INV-4";
      }
      if (const uint64_t block = record.text_block.load(); block != 0) {
        // One that is remembered under an inline name may have lost it.
        const size_t size = layout::NameSizeOf(record.sizes.load());
        if (layout::IsFound(kind) ||
            (kind == layout::Kind::kRemembered && !layout::NameIsInline(size))) {
          EXPECT_TRUE(blocks.insert(block).second) << "L-15: slot " << index;
          EXPECT_EQ(OwnerOfBlock(*segment, block), index + 1) << "L-15";
        }
      }
      if (layout::IsFoundOrphaned(kind) || kind == layout::Kind::kRemembered) {
        EXPECT_TRUE(departures.insert(record.departure.load()).second) << "L-7";
        EXPECT_LE(record.departure.load(), segment->header().last_departure.load()) << "L-7";
      }
    }
  }

  // What is there now against what was before.
  void CheckFacts(const Scenario& scenario, const Facts& before, bool is_complete, const Facts& now,
                  bool is_settled) const {
    size_t forgotten = 0;
    for (const auto& [name, node] : before) {
      if (name == scenario.own) continue;
      const auto found = now.find(name);
      if (found == now.end() && scenario.victims.count(name) != 0) {
        ++forgotten;
        continue;
      }
      ASSERT_NE(found, now.end()) << name << " is lost";
      // One that was claimed and put back left anew.
      const bool is_victim = scenario.victims.count(name) != 0;
      EXPECT_EQ(is_victim ? DescribeStable(found->second) : Describe(found->second),
                is_victim ? DescribeStable(node) : Describe(node));
    }
    EXPECT_LE(forgotten, 1u);
    for (const auto& [name, node] : now) {
      if (before.count(name) == 0) {
        EXPECT_EQ(name, scenario.own);
      }
    }
    const auto was = before.find(scenario.own);
    const auto is = now.find(scenario.own);
    // Not to be read while it is owned.
    if (is == now.end() && !is_settled) return;
    EXPECT_TRUE(scenario.may_be(scenario, was == before.end() ? nullptr : &was->second,
                                is == now.end() ? nullptr : &is->second, is_complete))
        << scenario.own << "\nwas: " << (was == before.end() ? "-" : Describe(was->second))
        << "\nis:  " << (is == now.end() ? "-" : Describe(is->second));
  }

  // The next writer can do everything: end and register each name, with creations that it did
  // not have before, and use all of the capacity.
  void CheckUsable(Registry& registry, Creations creations) const {
    Registration found;
    const auto end_all = [&] {
      for (uint32_t slot = 0; slot < registry.view().capacity(); ++slot) {
        if (!registry.ReadSlot(slot, found) || found.state == RegistrationState::kRemembered) {
          continue;
        }
        creations[std::string(found.name())] =
            std::max(creations[std::string(found.name())], found.creation);
        EXPECT_TRUE(registry.Unregister(slot, found.id)) << Describe(found);
      }
    };
    const auto register_name = [&](const std::string& name) {
      const RegisterResult node = registry.Register(NodeOf(name, 21, ExtraOf(21)));
      EXPECT_EQ(node.outcome, RegisterResult::Outcome::kRegistered) << name;
      EXPECT_GT(node.creation, creations[name]) << "INV-5: " << name;
      creations[name] = node.creation;
      EXPECT_TRUE(registry.Lookup(name, found) && IsWhole(found, name)) << name;
      EXPECT_TRUE(registry.Unregister(node.slot, node.id)) << name;
    };
    end_all();
    std::vector<std::string> names;
    for (const auto& [name, creation] : creations) names.push_back(name);
    for (const std::string& name : names) register_name(name);
    EXPECT_EQ(registry.live_count(), 0u);
    uint32_t registered = 0;
    while (registry.Register(NodeOf(absl::StrCat("fill", registered), 22, ExtraOf(22))).outcome ==
           RegisterResult::Outcome::kRegistered) {
      ++registered;
    }
    EXPECT_EQ(registered, registry.view().capacity()) << "a record is lost for good";
    EXPECT_EQ(registry.live_count(), registered);
    end_all();
    for (const std::string& name : names) register_name(name);
  }

  // Lets a child do it and die at point `dies_at`; whether it was through before. From kOpen: its
  // opening of the registry counts as well.
  bool RunUntil(uint64_t dies_at, uint32_t capacity, const Victim& victim) {
    ++runs_;
    const int status = InChild(capacity, victim, dies_at, false);
    const bool is_through = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (is_through) {
      EXPECT_LT(g_progress->points, dies_at) << "it went past its last point";
    } else {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "status " << status;
      EXPECT_EQ(g_progress->points, dies_at);
      ++points_;
    }
    return is_through || HasFailure();
  }

  // Does the same in a guarded child: it has all its points, and changes nothing without one.
  void RunGuarded(uint64_t points, uint32_t capacity, const Victim& victim) const {
    const int status = InChild(capacity, victim, 0, true);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
        << "a change that is no crash point: status " << status;
    EXPECT_EQ(g_progress->points, points);
  }

  int InChild(uint32_t capacity, const Victim& victim, uint64_t dies_at, bool is_guarded) const {
    const pid_t pid = fork();
    if (pid == 0) {
      g_is_guarded = is_guarded;
      if (victim.from == Victim::From::kOpen) Arm(dies_at);
      auto registry = Registry::Open({.path = path_, .capacity = capacity});
      if (!registry.ok()) _exit(3);
      victim.leave();
      if (victim.from == Victim::From::kAct) Arm(dies_at);
      victim.act(**registry);
      g_is_armed = false;
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return status;
  }

  // Looks at the registry as a crash has left it.
  void CheckAfterCrash(const Scenario& scenario, const Facts& before, bool is_complete,
                       std::unique_ptr<Registry> survivor) {
    CheckStructure(false);
    const Facts at_crash = Look();
    CheckFacts(scenario, before, is_complete, at_crash, false);
    Creations creations;
    Note(before, creations);
    Note(at_crash, creations);
    creations[scenario.own] += 0;
    if (survivor == nullptr) {
      survivor = Open(scenario.capacity);
      ASSERT_NE(survivor, nullptr);
      CheckStructure(true);
      const Facts now = Look();
      CheckFacts(scenario, before, is_complete, now, true);
      Note(now, creations);
      // What was seen as registered stays so.
      for (const auto& [name, node] : at_crash) {
        if (node.state == RegistrationState::kRemembered) continue;
        ASSERT_EQ(now.count(name), 1u) << name;
        EXPECT_EQ(Describe(now.at(name)), Describe(node));
      }
    }
    CheckUsable(*survivor, creations);
    CheckStructure(true);
  }

  Facts Prepare(Scenario& scenario) {
    Remove();
    scenario.prepare(*Open(scenario.capacity), scenario);
    MoveCreationsAhead();
    return Look();
  }

  // Lets it die at each point, from `image`, and calls `before_run` before and `check` after each.
  void AtEachPoint(
      const Image& image, uint32_t capacity, const Victim& victim,
      const std::function<void()>& before_run, const std::function<void(bool is_complete)>& check,
      const std::function<uint64_t(uint64_t)>& step = [](uint64_t) { return 1; }) {
    bool is_through = false;
    for (uint64_t point = 1; !is_through; point += step(point) * Stride()) {
      SCOPED_TRACE(absl::StrCat("point ", point));
      Restore(image);
      before_run();
      is_through = RunUntil(point, capacity, victim);
      const uint64_t points = g_progress->points;
      check(is_through);
      if (HasFailure()) return;
      if (!is_through) continue;
      Restore(image);
      before_run();
      RunGuarded(points, capacity, victim);
    }
  }

  void CrashEverywhere(Scenario scenario) {
    SCOPED_TRACE(scenario.name);
    const Facts before = Prepare(scenario);
    const Image image = Save();
    const uint64_t points_before = points_;
    for (const bool in_company : {false, true}) {
      SCOPED_TRACE(in_company ? "in company" : "alone");
      std::unique_ptr<Registry> survivor;
      AtEachPoint(
          image, scenario.capacity, VictimOf(scenario),
          [&] { survivor = in_company ? Open(scenario.capacity) : nullptr; },
          [&](bool is_complete) {
            CheckAfterCrash(scenario, before, is_complete, std::move(survivor));
          });
    }
    std::cout << "    " << scenario.name << ": " << (points_ - points_before) / 2 << " points\n";
  }

  // Recovery from a death at each point dies at each of its own points, too.
  void CrashRecoveryEverywhere(Scenario scenario) {
    SCOPED_TRACE(scenario.name);
    const Facts before = Prepare(scenario);
    const Image image = Save();
    const uint64_t points_before = points_;
    AtEachPoint(
        image, scenario.capacity, VictimOf(scenario), [] {},
        [&](bool is_complete) {
          const Image crashed = Save();
          AtEachPoint(
              crashed, scenario.capacity, {}, [] {},
              [&](bool) { CheckAfterCrash(scenario, before, is_complete, nullptr); });
        });
    std::cout << "    " << scenario.name << ", twice: " << points_ - points_before << " points\n";
  }

  char directory_[40] = "/dev/shm/registry-crash-test-XXXXXX";
  std::string path_;
  uint64_t points_ = 0;
  uint64_t runs_ = 0;
};

inline RegisterResult Put(Registry& registry, const std::string& name, uint16_t number) {
  const RegisterResult node = registry.Register(NodeOf(name, number, ExtraOf(number)));
  EXPECT_EQ(node.outcome, RegisterResult::Outcome::kRegistered) << name;
  return node;
}
inline RegisterResult PutRemembered(Registry& registry, const std::string& name, uint16_t number) {
  const RegisterResult node = Put(registry, name, number);
  EXPECT_TRUE(registry.Unregister(node.slot, node.id));
  return node;
}
inline RegisterResult PutOrphaned(Registry& registry, const std::string& name, uint16_t number) {
  const RegisterResult node = Put(registry, name, number);
  EXPECT_TRUE(registry.Orphan(node.slot, node.id));
  return node;
}

inline bool IsSame(const Registration* a, const Registration* b) {
  return a == nullptr || b == nullptr ? a == b : DescribeStable(*a) == DescribeStable(*b);
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_CRASH_TESTING_H_
