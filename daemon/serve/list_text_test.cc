#include "daemon/serve/list_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/wire/protocol.h"
#include "registry/registry.h"

namespace evermap {
namespace {

using testing::ElementsAreArray;

constexpr uint32_t kNames = 3000;  // many steps
constexpr uint16_t kMapperPort = 4369;

class ListsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    auto registry =
        Registry::Open({.path = absl::StrCat(directory_, "/registry"), .capacity = 2 * kNames});
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
  }

  ~ListsTest() override {
    close(wake_fd_);
    std::filesystem::remove_all(directory_);
  }

  RegisterResult Register(const std::string& name, uint16_t port = 7) {
    const RegisterResult result = registry_->Register({.name = name, .port = port});
    EXPECT_EQ(result.outcome, RegisterResult::Outcome::kRegistered) << name;
    nodes_[name] = result;
    return result;
  }

  void Unregister(const std::string& name) {
    EXPECT_TRUE(registry_->Unregister(nodes_[name].slot, nodes_[name].id)) << name;
  }

  // Of `kNames` names, in another order than that of their slots.
  std::vector<std::string> RegisterMany() {
    std::vector<std::string> names;
    for (uint32_t i = 0; i < kNames; ++i) names.push_back(absl::StrCat("node-", i));
    for (const std::string& name : names) Register(name);
    for (const std::string& name : names) Unregister(name);
    std::shuffle(names.begin(), names.end(), std::mt19937(1));
    for (const std::string& name : names) Register(name);
    return names;
  }

  std::unique_ptr<ListMaker> Maker(List list) {
    return std::make_unique<ListMaker>(list, *registry_, custody_, kMapperPort);
  }

  std::string Text(List list) {
    const auto maker = Maker(list);
    while (!maker->Step()) continue;
    return maker->TakeText();
  }

  static std::string Header() {
    std::string text(protocol::kPortHeaderSize, '\0');
    protocol::EncodePortHeader(
        kMapperPort, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), text.size()));
    return text;
  }

  // Names on the lines of a NAMES text.
  static std::vector<std::string> NamesOn(const std::string& text) {
    std::vector<std::string> names;
    for (const absl::string_view line :
         absl::StrSplit(text.substr(protocol::kPortHeaderSize), '\n', absl::SkipEmpty())) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      names.push_back(words.at(1));
    }
    return names;
  }

  char directory_[32] = "/tmp/evermap-lists.XXXXXX";
  const int wake_fd_ = eventfd(0, EFD_CLOEXEC);
  Custody custody_{2 * kNames, 2 * kNames, wake_fd_};
  std::unique_ptr<Registry> registry_;
  std::map<std::string, RegisterResult> nodes_;
};

TEST_F(ListsTest, NobodyIsThere) {
  EXPECT_EQ(Text(List::kNames), Header());
  EXPECT_EQ(Text(List::kDump), Header());
}

TEST_F(ListsTest, NamesAreNewestFirst) {
  std::vector<std::string> names = RegisterMany();
  std::reverse(names.begin(), names.end());
  EXPECT_THAT(NamesOn(Text(List::kNames)), ElementsAreArray(names));
}

TEST_F(ListsTest, NamesHasOrphansAndNotWhoHasLeft) {
  Register("first", 1);
  Register("orphan", 2);
  Register("gone", 3);
  Register("last", 4);
  ASSERT_TRUE(registry_->Orphan(nodes_["orphan"].slot, nodes_["orphan"].id));
  Unregister("gone");
  std::string expected = Header();
  protocol::AppendNamesLine("last", 4, expected);
  protocol::AppendNamesLine("orphan", 2, expected);
  protocol::AppendNamesLine("first", 1, expected);
  EXPECT_EQ(Text(List::kNames), expected);
}

TEST_F(ListsTest, DumpHasTheNewestFirstThenOrphansThenTheLatestOfTheOld) {
  std::vector<std::string> names = RegisterMany();
  constexpr uint32_t kLeft = 1200;
  static_assert(kLeft > kDumpOldMax);
  for (uint32_t i = 0; i < kLeft; ++i) Unregister(names[i]);
  const std::vector<std::string> orphans(names.begin() + kLeft, names.begin() + 2 * kLeft);
  for (const std::string& name : orphans) {
    ASSERT_TRUE(registry_->Orphan(nodes_[name].slot, nodes_[name].id));
  }
  custody_.HoldStored(nodes_[names.back()].slot, 77);
  std::string expected = Header();
  for (uint32_t i = kNames; i-- > 2 * kLeft;) {
    protocol::AppendDumpLineActive(names[i], 7, custody_.DescriptorOf(nodes_[names[i]].slot),
                                   expected);
  }
  for (uint32_t i = 2 * kLeft; i-- > kLeft;) {
    protocol::AppendDumpLineOrphaned(names[i], 7, expected);
  }
  for (uint32_t i = kLeft - kDumpOldMax; i < kLeft; ++i) {
    protocol::AppendDumpLineOld(names[i], 7, -1, expected);
  }
  EXPECT_EQ(Text(List::kDump), expected);
}

TEST_F(ListsTest, WhoStaysIsThereOnceWhateverOthersDoBetweenSteps) {
  std::vector<std::string> names = RegisterMany();
  std::mt19937 random(2);
  std::shuffle(names.begin(), names.end(), random);
  constexpr uint32_t kStay = kNames / 2;
  const auto maker = Maker(List::kNames);
  int steps = 1;
  for (; !maker->Step(); ++steps) {
    for (int i = 0; i < 50; ++i) {
      const std::string& name = names[kStay + random() % (kNames - kStay)];
      if (registry_->Unregister(nodes_[name].slot, nodes_[name].id)) {
        Register(absl::StrCat("new-", steps, "-", i));
      } else {
        Register(name);
      }
    }
  }
  EXPECT_GT(steps, 10);
  std::map<std::string, int> counts;
  const std::string text = maker->TakeText();
  for (const std::string& name : NamesOn(text)) ++counts[name];
  for (uint32_t i = 0; i < kStay; ++i) EXPECT_EQ(counts[names[i]], 1) << names[i];
}

}  // namespace
}  // namespace evermap
