// Crash tests (registry_crash_test.cc) of opening a registry: creation, recovery, restart, migration.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/crash_testing.h"
#include "registry/layout.h"
#include "registry/layout_v1.h"
#include "registry/layout_v1_testing.h"
#include "registry/recovery.h"
#include "registry/registry.h"
#include "registry/siphash.h"

namespace evermap {
namespace {

using layout::Kind;

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
    LeaveClaimed(PutRemembered(*registry, Colliding(4), 4).slot, Kind::kClaimed);
    LeaveClaimed(Put(*registry, Colliding(5), 5).slot, Kind::kAmending);
    LeaveClaimed(PutOrphaned(*registry, Colliding(6), 6).slot, Kind::kAdopting);
    const uint32_t retiring = PutRemembered(*registry, Colliding(7), 7).slot;
    const uint32_t marked = PutRemembered(*registry, Colliding(8), 8).slot;
    Put(*registry, Colliding(9), 9);
    LeaveClaimed(retiring, Kind::kRetiring);
    LeaveClaimed(marked, Kind::kRetiring);
    const auto segment = Map(SegmentAccess::kWrite);
    layout::Word& next = segment->record(marked).next;
    next.store(layout::LinkLike(next.load(), next.load(), true));
    // Claimed, and on no chain yet.
    const auto unlinked = static_cast<uint32_t>(segment->header().high_water.fetch_add(1));
    LeaveClaimed(unlinked, Kind::kClaimed);
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
        LeaveClaimed(node.slot, left, kPlaceOfOpener);
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

}  // namespace
}  // namespace evermap
