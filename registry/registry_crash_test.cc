// Deterministic crash tests (INV-3): a writer dies at each change that it makes to shared memory,
// one after the other, in each operation and from each state that matters; then everything is
// checked. This file has registrations; changes of them are in change_crash_test.cc, openings in
// open_crash_test.cc.
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
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/crash_testing.h"
#include "registry/layout.h"
#include "registry/registry.h"

// Linked with --wrap; with 64-bit file offsets <sys/mman.h> calls mmap64.
extern "C" void* WrappedMmap(void* address, size_t size, int protection, int flags, int fd,
                             off_t offset) __asm__("__wrap_mmap64");
extern "C" void* WrappedMmap(void* address, size_t size, int protection, int flags, int fd,
                             off_t offset) {
  if (evermap::g_is_guarded && fd >= 0 && (flags & MAP_SHARED) != 0) protection &= ~PROT_WRITE;
  const long mapped = syscall(SYS_mmap, address, size, protection, flags, fd, offset);
  return reinterpret_cast<void*>(mapped);
}

namespace evermap {
namespace {

using layout::Kind;
using Outcome = RegisterResult::Outcome;

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
  // All in one bucket, and names and extras of all places: inline, in a block, both.
  for (const auto& [size, number] :
       std::vector<std::pair<size_t, uint16_t>>{{10, 5}, {10, 7}, {160, 50}, {161, 50}, {300, 7}}) {
    CrashEverywhere(Registering(absl::StrCat("into a chain, name and extra of ", size, " and ",
                                             ExtraOf(number).size(), " bytes"),
                                number,
                                [this, own_size = size](Registry& registry, Scenario& scenario) {
                                  scenario.own = Colliding(0, own_size);
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
    LeaveClaimed(scenario.target.slot, Kind::kClaimed);
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
      LeaveClaimed(scenario.target.slot, kind);
    };
    CrashEverywhere(left);
  }
}

// The file gets longer, or what is in it is used anew.
TEST_F(RegistryCrashTest, Inv3RegisterInAnExtentOfItsOwn) {
  constexpr uint32_t kCapacity = 300;
  CrashEverywhere(Registering(
      "the first record of an extent", 5,
      [](Registry& registry, Scenario&) {
        for (uint32_t i = 0; i < layout::kExtentRecords; ++i) {
          PutRemembered(registry, absl::StrCat("before", i), 1);
        }
      },
      kCapacity));
  CrashEverywhere(Registering(
      "the first block of an extent", 7,
      [](Registry& registry, Scenario&) {
        for (uint32_t i = 0; i < layout::kExtentBlocks; ++i) {
          Put(registry, absl::StrCat("before", i), 14);
        }
      },
      2 * layout::kExtentBlocks));
}

TEST_F(RegistryCrashTest, Inv3RegisterWithABlockOfAnother) {
  CrashEverywhere(Registering(
      "the block of an extra whose registration has ended", 7,
      [](Registry& registry, Scenario&) {
        for (uint32_t i = 1; i < layout::kExtentBlocks; ++i) {
          Put(registry, absl::StrCat("before", i), 14);
        }
        PutRemembered(registry, "ended", 21);
      },
      2 * layout::kExtentBlocks));
  CrashEverywhere(Registering(
      "the block of a name that is remembered", 7,
      [](Registry& registry, Scenario& scenario) {
        for (uint32_t i = 0; i < layout::kExtentBlocks; ++i) {
          const std::string name = absl::StrCat("before", i, std::string(500, 'x'));
          PutRemembered(registry, name, 1);
          scenario.victims.insert(name);
        }
      },
      2 * layout::kExtentBlocks));
  CrashEverywhere(Registering(
      "its own block, and gives it back", 5,
      [](Registry& registry, Scenario& scenario) { PutRemembered(registry, scenario.own, 7); }));
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

TEST_F(RegistryCrashTest, Inv3RecoveryFromEachCrash) {
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
