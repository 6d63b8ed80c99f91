// Crash tests (registry_crash_test.cc) of changes of a registration, and of the status.
#include <gtest/gtest.h>

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
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/status.h"

namespace evermap {
namespace {

using layout::Kind;

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
        LeaveClaimed(at.target.slot, start.left);
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
        {Victim::From::kAct, [] {},
         [&](Registry& own) {
           own.SetMapperStatus({.pid = 50, .loop = text_of(50)});
           own.SetUpgradeStatus({.number = 50, .text = text_of(50)});
         }},
        [] {},
        [&](bool is_complete) {
          registry = Open();
          const MapperStatus mapper = registry->view().mapper_status();
          const UpgradeStatus upgrade = registry->view().upgrade_status();
          EXPECT_TRUE(mapper.pid == 50 ||
                      (!is_complete && mapper.pid == static_cast<uint32_t>(before)));
          EXPECT_EQ(mapper.loop, text_of(static_cast<int>(mapper.pid)));
          EXPECT_TRUE(upgrade.number == 50 ||
                      (!is_complete && upgrade.number == static_cast<uint64_t>(before)));
          EXPECT_EQ(upgrade.text, text_of(static_cast<int>(upgrade.number)));
          registry->SetMapperStatus({.pid = 51});
          EXPECT_EQ(registry->view().mapper_status().pid, 51u);
          registry = nullptr;
        });
  }
}

}  // namespace
}  // namespace evermap
