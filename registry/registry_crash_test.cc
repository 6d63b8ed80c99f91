// Deterministic crash tests (INV-3): a writer dies at each change that it makes to shared memory,
// one after the other, in each operation and from each state that matters; then everything is
// checked.
//
// The registry is compiled anew for this test, with words that are crash points (crash_points.h).
// Steps that are no stores (the names of files in a migration) are points by its hook.
//
// A run is made with the writer dying at point 1, 2, ... until one is through without dying. Each
// is looked at in two ways: by a writer that opens the registry after the death, and by one that
// had it open before and does nothing special about it.
//
// That no change escapes the points is enforced by the processor, in one more run that is guarded:
// the segment is mapped there without leave to write, which a point gives to one page for the time
// of one change.
//
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
#include "registry/layout.h"
#include "registry/layout_v1.h"
#include "registry/layout_v1_testing.h"
#include "registry/migration.h"
#include "registry/reader.h"
#include "registry/recovery.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/segment.h"
#include "registry/status.h"

// Whether this process is guarded (see above).
bool g_is_guarded = false;

// Linked with --wrap; with 64-bit file offsets <sys/mman.h> calls mmap64.
extern "C" void* WrappedMmap(void* address, size_t size, int protection, int flags, int fd,
                             off_t offset) __asm__("__wrap_mmap64");
extern "C" void* WrappedMmap(void* address, size_t size, int protection, int flags, int fd,
                             off_t offset) {
  if (g_is_guarded && fd >= 0 && (flags & MAP_SHARED) != 0) protection &= ~PROT_WRITE;
  const long mapped = syscall(SYS_mmap, address, size, protection, flags, fd, offset);
  return reinterpret_cast<void*>(mapped);
}

namespace evermap {
namespace {

using layout::Kind;
using Outcome = RegisterResult::Outcome;

constexpr uintptr_t kPage = 4096;
// A writer's place that nobody has.
constexpr uint32_t kDeadWriter = 200;
// Creations of what is there before a crash lie this far ahead of the clock, so that one that is
// given out again is not hidden by the time that has passed.
constexpr uint32_t kCreationLead = 1'000'000;
// A migration copies the 64 counters of each of 256 workers, after some four hundred other changes,
// into a file that nobody looks at before it is complete: of these points every so many are tried.
constexpr uint64_t kCountersFirst = 500;
constexpr uint64_t kCountersEnd = 256 * 64;
constexpr uint64_t kCountersStride = 251;

// Shared with the child that is to die.
struct Progress {
  std::atomic<uint64_t> points;
};
Progress* g_progress = nullptr;
uint64_t g_dies_at = 0;  // point, from 1; 0: never
bool g_is_armed = false;

void SetWritable(const void* word, bool is_writable) {
  void* page = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(word) & ~(kPage - 1));
  if (mprotect(page, kPage, is_writable ? PROT_READ | PROT_WRITE : PROT_READ) != 0) abort();
}

std::function<void()> g_visit;  // what happens at point g_dies_at instead of a death

void ReachPoint() {
  if (!g_is_armed || g_progress->points.fetch_add(1) + 1 != g_dies_at) return;
  if (!g_visit) raise(SIGKILL);
  g_is_armed = false;
  g_visit();
}

void Arm(uint64_t dies_at) {
  g_progress->points = 0;
  g_dies_at = dies_at;
  g_is_armed = true;
}

void InstallHooks() {
  void* memory =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  g_progress = new (memory) Progress();
  CrashPoints::before = [](const void* word) {
    ReachPoint();
    if (g_is_guarded) SetWritable(word, true);
  };
  CrashPoints::after = [](const void* word) {
    if (g_is_guarded) SetWritable(word, false);
  };
  SetMigrationHookForTests([](int) { ReachPoint(); });
}

// Points that are passed over between two that are tried, on slow builds.
uint64_t Stride() {
  const int percent = Scaled(100);
  return percent >= 100 ? 1 : static_cast<uint64_t>(100 / std::max(percent, 1));
}

// Without what depends on the time.
std::string DescribeStable(Registration node) {
  node.left_unix_ns = 0;
  node.departure = 0;
  return Describe(node);
}

using Facts = std::map<std::string, Registration>;  // by name

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
  void LeaveOwned(uint32_t slot, Kind kind, uint32_t owner = kDeadWriter) const {
    const auto segment = Map(SegmentAccess::kWrite);
    layout::Word& state = segment->record(slot).state;
    state.store(layout::NextState(state.load(), kind, owner));
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
        if (layout::KindOf(record.state.load()) != Kind::kRetiring) {
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
    for (uint32_t index = 0; index < segment->capacity(); ++index) {
      const layout::Record& record = segment->record(index);
      const Kind kind = layout::KindOf(record.state.load());
      if (index >= used) {
        EXPECT_EQ(kind, Kind::kFree);
      }
      if (is_settled) {
        EXPECT_FALSE(layout::HasClaimant(kind)) << "slot " << index;
      }
      if (kind == Kind::kFree) {
        EXPECT_EQ(linked.count(index), 0u) << "slot " << index;
      }
      if (layout::IsFound(kind) || kind == Kind::kRemembered) {
        EXPECT_EQ(linked.count(index), 1u) << "slot " << index;
        EXPECT_TRUE(ids.insert(record.id.load()).second) << "INV-4";
        EXPECT_LE(record.id.load(), segment->header().next_id.load()) << "INV-4";
      }
      if (layout::IsFoundOrphaned(kind) || kind == Kind::kRemembered) {
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

  // Highest creation that anybody can have seen of each name.
  using Creations = std::map<std::string, uint32_t>;
  static void Note(const Facts& facts, Creations& creations) {
    for (const auto& [name, node] : facts) {
      creations[name] = std::max(creations[name], node.creation);
    }
  }

  // Whoever comes next can do everything: end and register each name, with creations that it did
  // not have before, and use all of the capacity.
  void CheckUsable(Registry& registry, Creations creations) const {
    Registration found;
    const auto end_all = [&] {
      for (uint32_t slot = 0; slot < registry.capacity(); ++slot) {
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
      EXPECT_EQ(node.outcome, Outcome::kRegistered) << name;
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
           Outcome::kRegistered) {
      ++registered;
    }
    EXPECT_EQ(registered, registry.capacity()) << "a record is lost for good";
    EXPECT_EQ(registry.live_count(), registered);
    end_all();
    for (const std::string& name : names) register_name(name);
  }

  enum class From { kAct, kOpen };
  struct Victim {
    From from = From::kOpen;
    std::function<void()> leave = [] {};
    std::function<void(Registry&)> act = [](Registry&) {};
  };
  static Victim VictimOf(const Scenario& scenario) {
    return {From::kAct,
            [&scenario] {
              if (scenario.leave) scenario.leave(scenario);
            },
            [&scenario](Registry& registry) { scenario.act(registry, scenario); }};
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
      if (victim.from == From::kOpen) Arm(dies_at);
      auto registry = Registry::Open({.path = path_, .capacity = capacity});
      if (!registry.ok()) _exit(3);
      victim.leave();
      if (victim.from == From::kAct) Arm(dies_at);
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

RegisterResult Put(Registry& registry, const std::string& name, uint16_t number) {
  const RegisterResult node = registry.Register(NodeOf(name, number, ExtraOf(number)));
  EXPECT_EQ(node.outcome, Outcome::kRegistered) << name;
  return node;
}
RegisterResult PutRemembered(Registry& registry, const std::string& name, uint16_t number) {
  const RegisterResult node = Put(registry, name, number);
  EXPECT_TRUE(registry.Unregister(node.slot, node.id));
  return node;
}
RegisterResult PutOrphaned(Registry& registry, const std::string& name, uint16_t number) {
  const RegisterResult node = Put(registry, name, number);
  EXPECT_TRUE(registry.Orphan(node.slot, node.id));
  return node;
}

bool IsSame(const Registration* a, const Registration* b) {
  return a == nullptr || b == nullptr ? a == b : DescribeStable(*a) == DescribeStable(*b);
}

// Registers the scenario's name, as a node of this number.
Scenario Registering(std::string name, uint16_t number,
                     std::function<void(Registry&, Scenario&)> prepare, uint32_t capacity = 4) {
  Scenario scenario;
  scenario.name = std::move(name);
  scenario.capacity = capacity;
  scenario.prepare = std::move(prepare);
  scenario.act = [number](Registry& registry, const Scenario& at) {
    registry.Register(NodeOf(at.own, number, ExtraOf(number)));
  };
  scenario.may_be = [number](const Scenario& at, const Registration* before,
                             const Registration* now, bool is_complete) {
    if (now == nullptr) return !is_complete && before == nullptr;
    if (now->state == RegistrationState::kLive) {
      return IsWhole(*now, at.own) && now->port == number &&
             (before == nullptr || now->creation > before->creation);
    }
    return !is_complete && now->state == RegistrationState::kRemembered &&
           (before == nullptr || now->creation >= before->creation);
  };
  return scenario;
}

TEST_F(RegistryCrashTest, Inv3RegisterFresh) {
  CrashEverywhere(Registering("into an empty registry", 5, [](Registry&, Scenario&) {}));
  // All in one bucket, and names and extras of all places: inline, overflow, both.
  for (const auto& [size, number] :
       std::vector<std::pair<size_t, uint16_t>>{{10, 5}, {10, 7}, {168, 50}, {169, 50}, {300, 7}}) {
    CrashEverywhere(Registering(absl::StrCat("into a chain, name and extra of ", size, " and ",
                                             ExtraOf(number).size(), " bytes"),
                                number,
                                [this, size = size](Registry& registry, Scenario& scenario) {
                                  scenario.own = Colliding(0, size);
                                  Put(registry, Colliding(1), 1);
                                  PutRemembered(registry, Colliding(2), 2);
                                  PutOrphaned(registry, Colliding(3), 3);
                                }));
  }
}

TEST_F(RegistryCrashTest, Inv3RegisterRemembered) {
  for (const int place : {1, 2, 3}) {
    CrashEverywhere(Registering(absl::StrCat("remembered, place ", place, " of its chain"), 6,
                                [this, place](Registry& registry, Scenario& scenario) {
                                  scenario.own = Colliding(place);
                                  PutRemembered(registry, Colliding(3), 3);
                                  PutRemembered(registry, Colliding(2), 2);
                                  PutRemembered(registry, Colliding(1), 1);
                                }));
  }
  for (const size_t size : {size_t{10}, size_t{400}}) {
    CrashEverywhere(Registering(absl::StrCat("remembered, ", size, " bytes, with a longer extra"),
                                7, [this, size](Registry& registry, Scenario& scenario) {
                                  scenario.own = Colliding(1, size);
                                  PutRemembered(registry, scenario.own, 1);
                                  Put(registry, Colliding(2), 2);
                                }));
  }
  // A writer has died before in the middle of the same.
  Scenario claimed =
      Registering("claimed by a dead writer", 8, [this](Registry& registry, Scenario& scenario) {
        scenario.own = Colliding(1);
        scenario.target = PutRemembered(registry, scenario.own, 1);
        Put(registry, Colliding(2), 2);
      });
  claimed.leave = [this](const Scenario& scenario) {
    LeaveOwned(scenario.target.slot, Kind::kClaimed);
  };
  CrashEverywhere(claimed);
}

TEST_F(RegistryCrashTest, Inv3RegisterRecycled) {
  // Which of three records of a chain is the oldest, and so is taken off it. Links are at the head,
  // so place 1 is what was linked last.
  for (const int oldest : {1, 2, 3}) {
    CrashEverywhere(Registering(
        absl::StrCat("recycles place ", oldest, " of a chain"), 9,
        [this, oldest](Registry& registry, Scenario& scenario) {
          scenario.own = Colliding(0);
          std::map<int, RegisterResult> nodes;
          for (const int place : {4, 3, 2, 1}) {
            nodes[place] = Put(registry, Colliding(place), static_cast<uint16_t>(place));
          }
          EXPECT_TRUE(registry.Unregister(nodes[oldest].slot, nodes[oldest].id));
          for (const int place : {1, 2, 3}) {
            if (place != oldest) registry.Unregister(nodes[place].slot, nodes[place].id);
          }
          scenario.victims = {Colliding(oldest)};
        }));
  }
  CrashEverywhere(
      Registering("recycles for a long name", 7, [this](Registry& registry, Scenario& scenario) {
        scenario.own = Colliding(0, 500);
        scenario.victims = {Colliding(1, 200)};
        PutRemembered(registry, Colliding(1, 200), 14);
        for (const int place : {2, 3, 4}) Put(registry, Colliding(place), 2);
      }));
  CrashEverywhere(Registering(
      "a registry of one name", 5,
      [](Registry& registry, Scenario& scenario) {
        PutRemembered(registry, "before", 1);
        scenario.victims = {"before"};
      },
      1));
  // What dead writers left is what there is to recycle.
  for (const Kind kind : {Kind::kClaimed, Kind::kRetiring}) {
    Scenario left =
        Registering(absl::StrCat("recycles what is left in state ", static_cast<int>(kind)), 5,
                    [this](Registry& registry, Scenario& scenario) {
                      scenario.own = Colliding(0);
                      for (const int place : {2, 3, 4}) Put(registry, Colliding(place), 2);
                      scenario.target = PutRemembered(registry, Colliding(1), 1);
                      scenario.victims = {Colliding(1)};
                    });
    left.leave = [this, kind](const Scenario& scenario) {
      // As it is done before a record is retired (L-9).
      const auto segment = Map(SegmentAccess::kWrite);
      const layout::Record& record = segment->record(scenario.target.slot);
      RaiseCreationFloor(*segment, layout::CreationOf(record.address.load()));
      LeaveOwned(scenario.target.slot, kind);
    };
    CrashEverywhere(left);
  }
}

TEST_F(RegistryCrashTest, Inv3RegisterRefused) {
  Scenario taken = Registering("a name that is taken", 5, [](Registry& registry, Scenario&) {
    Put(registry, "own", 1);
    PutOrphaned(registry, "other", 2);
  });
  taken.may_be = [](const Scenario&, const Registration* before, const Registration* now, bool) {
    return IsSame(before, now);
  };
  CrashEverywhere(taken);
  Scenario full = Registering(
      "a registry that is full", 5, [](Registry& registry, Scenario&) { Put(registry, "one", 1); },
      1);
  full.may_be = taken.may_be;
  CrashEverywhere(full);
}

// --- Changing -------------------------------------------------------------------------------

using Act = std::function<void(Registry&, const RegisterResult&)>;
using MayBe = decltype(Scenario::may_be);

constexpr uint64_t kNewCookie = 99;

// What an operation on a registration starts from.
struct Start {
  const char* name;
  RegistrationState state;
  Kind left;  // in which a dead writer has left it; kFree: in none
};
constexpr Start kLiveStarts[] = {{"live", RegistrationState::kLive, Kind::kFree},
                                 {"live, half amended", RegistrationState::kLive, Kind::kAmending}};
constexpr Start kOrphanedStarts[] = {
    {"orphaned", RegistrationState::kOrphaned, Kind::kFree},
    {"orphaned, half adopted", RegistrationState::kOrphaned, Kind::kAdopting}};
constexpr Start kEndedStart = {"ended", RegistrationState::kRemembered, Kind::kFree};

class RegistryChangeCrashTest : public RegistryCrashTest {
 protected:
  Scenario Changing(const std::string& name, const Start& start, const Act& act,
                    const MayBe& may_be) {
    Scenario scenario;
    scenario.name = absl::StrCat(name, " ", start.name);
    scenario.prepare = [this, start](Registry& registry, Scenario& at) {
      at.own = Colliding(0);
      Put(registry, Colliding(1), 1);
      at.target = Put(registry, at.own, 7);
      PutOrphaned(registry, Colliding(2), 2);
      if (start.state == RegistrationState::kOrphaned)
        registry.Orphan(at.target.slot, at.target.id);
      if (start.state == RegistrationState::kRemembered) {
        registry.Unregister(at.target.slot, at.target.id);
      }
    };
    if (start.left != Kind::kFree) {
      scenario.leave = [this, start](const Scenario& at) {
        LeaveOwned(at.target.slot, start.left);
      };
    }
    scenario.act = [act](Registry& registry, const Scenario& at) { act(registry, at.target); };
    scenario.may_be = may_be;
    return scenario;
  }
};

// As `before` but for its state.
bool IsSameIn(RegistrationState state, Registration before, const Registration* now) {
  before.state = state;
  return IsSame(&before, now);
}

TEST_F(RegistryChangeCrashTest, Inv3Unregister) {
  const auto act = [](Registry& registry, const RegisterResult& node) {
    registry.Unregister(node.slot, node.id);
  };
  const auto may_be = [](const Scenario&, const Registration* before, const Registration* now,
                         bool is_complete) {
    return IsSameIn(RegistrationState::kRemembered, *before, now) ||
           (!is_complete && IsSame(before, now));
  };
  for (const Start& start : kLiveStarts) CrashEverywhere(Changing("ends", start, act, may_be));
  for (const Start& start : kOrphanedStarts) CrashEverywhere(Changing("ends", start, act, may_be));
  CrashEverywhere(Changing("ends", kEndedStart, act, may_be));
}

TEST_F(RegistryChangeCrashTest, Inv3Orphan) {
  const auto act = [](Registry& registry, const RegisterResult& node) {
    registry.Orphan(node.slot, node.id);
  };
  const auto may_be = [](const Scenario&, const Registration* before, const Registration* now,
                         bool is_complete) {
    return IsSameIn(RegistrationState::kOrphaned, *before, now) ||
           (!is_complete && IsSame(before, now));
  };
  for (const Start& start : kLiveStarts) CrashEverywhere(Changing("orphans", start, act, may_be));
}

TEST_F(RegistryChangeCrashTest, Inv3Adopt) {
  const auto act = [](Registry& registry, const RegisterResult& node) {
    registry.Adopt(node.slot, node.id, kNewCookie);
  };
  const auto may_be = [](const Scenario&, const Registration* before, const Registration* now,
                         bool is_complete) {
    Registration adopted = *before;
    adopted.connection_cookie = kNewCookie;
    return IsSameIn(RegistrationState::kLive, adopted, now) ||
           (!is_complete && (IsSame(before, now) || IsSame(&adopted, now)));
  };
  for (const Start& start : kOrphanedStarts) {
    CrashEverywhere(Changing("adopts", start, act, may_be));
  }
}

TEST_F(RegistryChangeCrashTest, Inv3Amend) {
  const Amendment what{.listener_cookie = kNewCookie, .owner_uid = 98, .owner_pid = 97};
  const auto act = [what](Registry& registry, const RegisterResult& node) {
    registry.Amend(node.slot, node.id, what);
  };
  const auto may_be = [](const Scenario&, const Registration* before, const Registration* now,
                         bool is_complete) {
    Registration half = *before;
    half.listener_cookie = kNewCookie;
    Registration whole = half;
    whole.owner_uid = 98;
    whole.owner_pid = 97;
    return IsSame(&whole, now) || (!is_complete && (IsSame(before, now) || IsSame(&half, now)));
  };
  for (const Start& start : kLiveStarts) CrashEverywhere(Changing("amends", start, act, may_be));
  for (const Start& start : kOrphanedStarts) {
    CrashEverywhere(Changing("amends", start, act, may_be));
  }
}

// While a writer amends a registration another ends it, and registers the name anew: the name is
// free when the first one has gone on, and not before.
TEST_F(RegistryCrashTest, Inv2NameThatIsGivenUpSoon) {
  uint64_t undecided = 0;
  for (uint64_t point = 1; !HasFailure(); ++point) {
    SCOPED_TRACE(absl::StrCat("point ", point));
    Restore({});
    auto amender = Open();
    auto other = Open();
    const RegisterResult node = Put(*amender, "own", 1);
    RegisterResult again;
    g_visit = [&] {
      EXPECT_TRUE(other->Unregister(node.slot, node.id));
      again = other->Register(NodeOf("own", 2, ExtraOf(2)));
      if (again.outcome != Outcome::kTaken) return;
      ++undecided;
      EXPECT_EQ(again.id, 0u);
      EXPECT_EQ(again.slot, node.slot);
      EXPECT_FALSE(other->AwaitClaimant(again.slot));
    };
    Arm(point);
    amender->Amend(node.slot, node.id, {.listener_cookie = 99});
    const bool was_visited = !std::exchange(g_is_armed, false);
    g_visit = nullptr;
    if (!was_visited) break;
    ++points_;
    EXPECT_TRUE(other->AwaitClaimant(node.slot));
    if (again.outcome == Outcome::kTaken) again = other->Register(NodeOf("own", 2, ExtraOf(2)));
    EXPECT_EQ(again.outcome, Outcome::kRegistered);
    CheckStructure(true);
  }
  EXPECT_GT(undecided, 0u);
}

TEST_F(RegistryChangeCrashTest, Inv3SetStatus) {
  const auto text_of = [](int number) { return std::string(static_cast<size_t>(number), 's'); };
  for (const int before : {0, 1, 2, 3, 4}) {
    Restore({});
    auto registry = Open();
    for (int i = 1; i <= before; ++i) {
      registry->SetMapperStatus({.pid = static_cast<uint32_t>(i), .loop = text_of(i)});
      registry->SetUpgradeStatus({.number = static_cast<uint64_t>(i), .text = text_of(i)});
    }
    registry = nullptr;
    SCOPED_TRACE(absl::StrCat("after ", before));
    AtEachPoint(
        Save(), 4,
        {From::kAct, [] {},
         [&](Registry& own) {
           own.SetMapperStatus({.pid = 50, .loop = text_of(50)});
           own.SetUpgradeStatus({.number = 50, .text = text_of(50)});
         }},
        [] {},
        [&](bool is_complete) {
          registry = Open();
          const MapperStatus mapper = registry->mapper_status();
          const UpgradeStatus upgrade = registry->upgrade_status();
          EXPECT_TRUE(mapper.pid == 50 ||
                      (!is_complete && mapper.pid == static_cast<uint32_t>(before)));
          EXPECT_EQ(mapper.loop, text_of(static_cast<int>(mapper.pid)));
          EXPECT_TRUE(upgrade.number == 50 ||
                      (!is_complete && upgrade.number == static_cast<uint64_t>(before)));
          EXPECT_EQ(upgrade.text, text_of(static_cast<int>(upgrade.number)));
          registry->SetMapperStatus({.pid = 51});
          EXPECT_EQ(registry->mapper_status().pid, 51u);
          registry = nullptr;
        });
  }
}

// --- Opening --------------------------------------------------------------------------------

class RegistryOpenCrashTest : public RegistryCrashTest {
 protected:
  // Lets the opening of what `image` holds die everywhere; when it is opened again after that, all
  // is as if it had not died.
  void CrashOpenEverywhere(const std::string& name, const Image& image, uint32_t capacity,
                           bool is_migration = false) {
    SCOPED_TRACE(name);
    const uint64_t points_before = points_;
    Restore(image);
    Open(capacity);
    const Facts expected = Look();
    AtEachPoint(
        image, capacity, {}, [] {},
        [&](bool) {
          const auto survivor = Open(capacity);
          ASSERT_NE(survivor, nullptr);
          CheckStructure(true);
          const Facts now = Look();
          EXPECT_EQ(now.size(), expected.size());
          for (const auto& [node_name, node] : expected) {
            ASSERT_EQ(now.count(node_name), 1u) << node_name;
            EXPECT_EQ(DescribeStable(now.at(node_name)), DescribeStable(node));
          }
          Creations creations;
          Note(now, creations);
          CheckUsable(*survivor, creations);
          CheckStructure(true);
        },
        [&](uint64_t point) {
          return is_migration && point >= kCountersFirst && point < kCountersEnd ? kCountersStride
                                                                                 : 1;
        });
    std::cout << "    " << name << ": " << points_ - points_before << " points\n";
  }

  // A registry with something half done by a dead writer in each way, and much else.
  Image HalfDone() const {
    Remove();
    auto registry = Open(16);
    Put(*registry, Colliding(1), 1);
    PutRemembered(*registry, Colliding(2, 300), 7);
    PutOrphaned(*registry, Colliding(3), 3);
    LeaveOwned(PutRemembered(*registry, Colliding(4), 4).slot, Kind::kClaimed);
    LeaveOwned(Put(*registry, Colliding(5), 5).slot, Kind::kAmending);
    LeaveOwned(PutOrphaned(*registry, Colliding(6), 6).slot, Kind::kAdopting);
    const uint32_t retiring = PutRemembered(*registry, Colliding(7), 7).slot;
    const uint32_t marked = PutRemembered(*registry, Colliding(8), 8).slot;
    Put(*registry, Colliding(9), 9);
    LeaveOwned(retiring, Kind::kRetiring);
    LeaveOwned(marked, Kind::kRetiring);
    const auto segment = Map(SegmentAccess::kWrite);
    layout::Word& next = segment->record(marked).next;
    next.store(layout::LinkLike(next.load(), next.load(), true));
    // Claimed, and on no chain yet.
    const auto unlinked = static_cast<uint32_t>(segment->header().high_water.fetch_add(1));
    LeaveOwned(unlinked, Kind::kClaimed);
    MoveCreationsAhead();
    // As it was done before the records were retired (L-9).
    RaiseCreationFloor(*segment, 2'000'000'000 + 20 * kCreationLead);
    return Save();
  }
};

TEST_F(RegistryOpenCrashTest, Inv3Create) { CrashOpenEverywhere("creation", {}, 4); }

TEST_F(RegistryOpenCrashTest, Inv3Recover) {
  CrashOpenEverywhere("recovery of everything half done", HalfDone(), 16);
}

// A writer that lives ends or orphans what a dead one amended, at each point of the opening that
// settles it. The place of the dead one is given to who opens.
TEST_F(RegistryOpenCrashTest, Inv3RecoverWhileAnotherWrites) {
  for (const Kind left : {Kind::kAmending, Kind::kAdopting}) {
    for (const bool ends : {true, false}) {
      for (uint64_t point = 1; !HasFailure(); ++point) {
        SCOPED_TRACE(absl::StrCat("kind ", static_cast<int>(left), ", point ", point));
        Restore({});
        auto other = Open();
        const RegisterResult node = Put(*other, "own", 1);
        if (left == Kind::kAdopting) other->Orphan(node.slot, node.id);
        constexpr uint32_t kPlaceOfOpener = 1;
        LeaveOwned(node.slot, left, kPlaceOfOpener);
        g_visit = [&] {
          if (ends) {
            other->Unregister(node.slot, node.id);
          } else {
            other->Orphan(node.slot, node.id);
          }
        };
        Arm(point);
        auto opener = Open();
        const bool was_visited = !std::exchange(g_is_armed, false);
        g_visit = nullptr;
        CheckStructure(true);
        CheckUsable(*other, {{"own", node.creation}});
        if (!was_visited) break;
        ++points_;
      }
    }
  }
}

TEST_F(RegistryOpenCrashTest, Inv3RestartAfterReboot) {
  Restore(HalfDone());
  {
    const auto segment = Map(SegmentAccess::kWrite);
    segment->header().boot_id[0].store(1);
  }
  CrashOpenEverywhere("restart after a reboot", Save(), 16);
}

TEST_F(RegistryOpenCrashTest, Inv3Inv7Migrate) {
  Remove();
  std::string content = LayoutV1Content();
  // Creations ahead of the clock, as MoveCreationsAhead() moves those of the newest layout.
  const layout::LayoutDescription& v1 = layout_v1::kDescription;
  const layout::Geometry geometry = v1.geometry(kLayoutV1Capacity);
  for (uint32_t index = 0; index < kLayoutV1Capacity; ++index) {
    const uint64_t at = geometry.records_offset + index * v1.record_size + v1.record.address;
    uint64_t address = LoadWord(content.data() + at, 8);
    if (address != 0) address += kCreationLead * (index + 1);
    std::memcpy(content.data() + at, &address, sizeof(address));
  }
  Restore({{"", content}});
  CrashOpenEverywhere("migration", Save(), kLayoutV1Capacity, true);
}

TEST_F(RegistryChangeCrashTest, Inv3RecoveryFromEachCrash) {
  CrashRecoveryEverywhere(Registering("fresh", 5, [](Registry& registry, Scenario&) {
    PutRemembered(registry, "one", 1);
    Put(registry, "two", 2);
  }));
  CrashRecoveryEverywhere(Registering("remembered", 5, [](Registry& registry, Scenario& at) {
    PutRemembered(registry, at.own, 1);
    Put(registry, "two", 2);
  }));
  CrashRecoveryEverywhere(Registering(
      "recycled", 5,
      [this](Registry& registry, Scenario& at) {
        at.own = Colliding(0);
        Put(registry, Colliding(1), 1);
        PutRemembered(registry, Colliding(2), 2);
        Put(registry, Colliding(3), 3);
        at.victims = {Colliding(2)};
      },
      3));
}

}  // namespace
}  // namespace evermap
