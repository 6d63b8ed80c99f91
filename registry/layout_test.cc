// Tests of former layouts as frozen descriptions (layout_v1.h): files that the code of version 1 wrote
// are read as they are and migrated (INV-7), and a description says the same as the structures of the
// newest layout.
#include "registry/layout.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "registry/counters.h"
#include "registry/evermap.h"
#include "registry/former_segment.h"
#include "registry/layout_v1.h"
#include "registry/layout_v1_testing.h"
#include "registry/location.h"
#include "registry/reader.h"
#include "registry/recovery.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/segment.h"
#include "registry/text_place.h"
#include "tests/next_layout/registry/layout_v3.h"

namespace evermap {
namespace {

// What freezing version 3 will say, as it is already said for the throw-away layout.
static_assert(layout_v3::kDescription.version == layout::kDescription.version);
static_assert(layout_v3::kDescription.header_size == layout::kDescription.header_size);
static_assert(layout_v3::kDescription.record_size == layout::kDescription.record_size);
static_assert(layout_v3::kDescription.header == layout::kDescription.header);
static_assert(layout_v3::kDescription.record == layout::kDescription.record);

class LayoutTest : public RegistryDirectoryTest {};

TEST_F(LayoutTest, Inv7WhereAStepIsRefusedVersion1Stays) {
  WriteFile(path_, LayoutV1Content());
  // What is in the way of the old file's second name cannot be removed as a file.
  const std::string in_the_way = PreviousPath(path_);
  ASSERT_TRUE(std::filesystem::create_directories(in_the_way + "/full"));
  const absl::Status refused = Registry::Open({.path = path_}).status();
  EXPECT_NE(std::string(refused.message()).find("cannot be migrated: the old file cannot be named"),
            std::string::npos)
      << refused;
  EXPECT_EQ(ReadFile(path_), LayoutV1Content());
  std::filesystem::remove_all(in_the_way);
  EXPECT_TRUE(Registry::Open({.path = path_}).ok());
}

TEST_F(LayoutTest, Inv7Version1IsReadAsItIs) {
  WriteFile(path_, LayoutV1Content());
  std::string error;
  const auto reader = Reader::Open(path_, error);
  ASSERT_NE(reader, nullptr) << error;
  const RegistryView& view = reader->view();
  EXPECT_EQ(view.capacity(), kLayoutV1Capacity);
  EXPECT_EQ(view.slots_used(), 20u);
  EXPECT_EQ(view.mapper_status().version, "old");
  EXPECT_EQ(view.upgrade_status().number, 41u);
  EXPECT_EQ(view.upgrade_status().text, "because");
  EXPECT_FALSE(view.superseded());
  EXPECT_EQ(view.statistics_size(), 512u);
  EXPECT_EQ(view.statistics(0).connections_accepted.load(), 1u);
  EXPECT_EQ(view.statistics(255).latency_buckets[kLatencyBuckets - 1].load(), 255'004u);

  Registration found;
  for (uint16_t i = 0; i < 14; ++i) {
    const std::string name = absl::StrCat("node", i, std::string(i % 11 == 0 ? 900 : i % 40, 'n'));
    ASSERT_TRUE(view.ReadSlot(i, found));
    EXPECT_TRUE(IsWhole(found, name)) << Describe(found);
    const bool is_gone = i % 5 == 2;
    EXPECT_EQ(view.Lookup(name, found), !is_gone) << name;
    EXPECT_EQ(found.state, is_gone                    ? RegistrationState::kRemembered
                           : i % 3 == 1 && i % 6 != 1 ? RegistrationState::kOrphaned
                                                      : RegistrationState::kLive);
    if (i % 2 == 0) {
      EXPECT_EQ(found.listener_cookie, uint64_t{i} << 40);
      EXPECT_EQ(found.owner_uid, i);
    }
  }
  EXPECT_TRUE(view.Lookup("amending", found));
  EXPECT_TRUE(view.Lookup("adopting", found));
  EXPECT_FALSE(view.Lookup("retiring", found));
  EXPECT_FALSE(view.Lookup("nobody", found));

  char message[EVERMAP_ERROR_SIZE];
  evermap_registry* opened = evermap_open(path_.c_str(), message);
  ASSERT_NE(opened, nullptr) << message;
  evermap_node node;
  EXPECT_EQ(evermap_lookup(opened, "amending", 8, &node), 1);
  EXPECT_EQ(node.port, 7);
  EXPECT_EQ(evermap_generation(opened), view.generation());
  evermap_close(opened);
}

TEST_F(LayoutTest, Inv3Inv7Version1IsMigrated) {
  WriteFile(path_, LayoutV1Content());
  const auto dump = [&](const RegistryView& view) {
    std::map<std::string, std::string> nodes;
    Registration node;
    for (uint32_t slot = 0; slot < view.slots_used(); ++slot) {
      if (view.ReadSlot(slot, node)) nodes[std::string(node.name())] = Describe(node);
    }
    return nodes;
  };
  std::string error;
  const auto old = Reader::Open(path_, error);
  const std::map<std::string, std::string> before = dump(old->view());
  EXPECT_EQ(before.size(), 16u) << "14 nodes, one amended, one adopted";

  ASSERT_TRUE(Registry::NeedsMigration(path_).value_or(false));
  auto opened = Registry::Open({.path = path_});
  ASSERT_TRUE(opened.ok()) << opened.status();
  Registry& registry = **opened;
  EXPECT_FALSE(Registry::NeedsMigration(path_).value_or(true));
  EXPECT_TRUE(old->view().superseded());
  const auto fresh = Reader::Open(path_, error);
  std::map<std::string, std::string> after = dump(fresh->view());
  for (const char* name : {"unregistered", "reregistering"}) {
    // What a dead writer has left half done is settled.
    EXPECT_EQ(after.erase(name), 1u) << name;
  }
  EXPECT_EQ(after, before);
  EXPECT_EQ(registry.view().capacity(), kLayoutV1Capacity);
  EXPECT_EQ(registry.statistics(255).stored.load(), 255'003u);
  EXPECT_EQ(registry.view().upgrade_status().text, "because");
  registry.FinishMigration();
  EXPECT_FALSE(Names().contains("registry.previous"));
  for (const char* name : {"unregistered", "reregistering", "retiring", "unlinked"}) {
    EXPECT_EQ(registry.Register({.name = name}).outcome, RegisterResult::Outcome::kRegistered);
  }
}

TEST_F(LayoutTest, Inv6DamagedVersion1HarmsNobody) {
  const std::string intact = LayoutV1Content();
  const layout::Geometry geometry = layout_v1::GeometryFor(kLayoutV1Capacity);
  std::mt19937 random(5);
  const int rounds = Scaled(200);
  for (int i = 0; i < rounds; ++i) {
    std::string damaged = intact;
    const uint64_t begin = i % 4 == 0 ? 0 : geometry.buckets_offset;
    const uint64_t size = i % 4 == 0 ? layout_v1::kHeaderSize : damaged.size() - begin;
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
      UseEverything(path_);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0) << "round " << i;
  }
}

// The description of the newest layout, by which status notes are read and which is frozen one day,
// leads to the words that the structures have.
TEST_F(LayoutTest, TheNewestLayoutIsReadByItsDescription) {
  auto registry = Registry::Open({.path = path_, .capacity = 1000});
  ASSERT_TRUE(registry.ok());
  std::vector<RegisterResult> nodes;
  for (int i = 0; i < 600; ++i) {
    const size_t size = std::vector<size_t>{5, 160, 161, 1020}[static_cast<size_t>(i % 4)];
    const std::string name = absl::StrCat(i + 1000, std::string(size - 4, 'n'));
    nodes.push_back((*registry)->Register(
        {.name = name, .extra = std::string(static_cast<size_t>(i) % 512, 'e'), .port = 7}));
    ASSERT_EQ(nodes.back().outcome, RegisterResult::Outcome::kRegistered);
  }
  Problem problem;
  const auto segment = Segment::Map(path_, SegmentAccess::kRead, problem);
  ASSERT_NE(segment, nullptr);
  const FormerSegment described(*segment);
  for (const layout::LayoutDescription* description :
       {&layout::kDescription, &layout_v3::kDescription}) {
    const layout::Geometry geometry = description->geometry(1000);
    EXPECT_EQ(geometry.file_size_min, segment->geometry().file_size_min);
    EXPECT_EQ(geometry.file_size_max, segment->geometry().file_size_max);
    for (const layout::HeaderWord& word : description->header_words(geometry)) {
      EXPECT_EQ(layout::Load(*segment->at<layout::Word>(word.offset)), word.value);
    }
    for (const size_t name_size : {1u, 160u, 161u, 1020u}) {
      EXPECT_EQ(description->name_place(name_size), layout::NamePlace(name_size));
      for (const size_t extra_size : {0u, 8u, 152u, 153u, 1020u}) {
        EXPECT_EQ(description->extra_place(name_size, extra_size),
                  layout::ExtraPlace(name_size, extra_size));
      }
    }
  }
  for (const RegisterResult& node : nodes) {
    const layout::Record& record = segment->record(node.slot);
    EXPECT_EQ(&described.record(node.slot).departure, &record.departure);
    EXPECT_EQ(&described.record(node.slot).text_block, &record.text_block);
    const size_t name_size = layout::NameSizeOf(layout::Load(record.sizes));
    const size_t extra_size = layout::ExtraSizeOf(layout::Load(record.sizes));
    EXPECT_EQ(described.NameWords(node.slot, name_size), NameWords(*segment, node.slot, name_size));
    EXPECT_EQ(described.ExtraWords(node.slot, name_size, extra_size),
              ExtraWords(*segment, node.slot, name_size, extra_size));
  }
  EXPECT_EQ(&described.generation(), &segment->header().generation);
  EXPECT_EQ(&described.word(&HeaderPlaces::next_id), &segment->header().next_id);
  EXPECT_EQ(&described.word(&HeaderPlaces::steady_offset), &segment->header().steady_offset);
  EXPECT_EQ(&described.word(&HeaderPlaces::shown_offset), &segment->header().shown_offset);
  EXPECT_EQ(&described.word(&HeaderPlaces::tells_changes), &segment->header().tells_changes);
  EXPECT_EQ(&described.mapper_note(), &segment->header().mapper);
  EXPECT_EQ(&described.bucket(15), &segment->bucket(15));
  EXPECT_EQ(static_cast<const void*>(described.statistics(255)), &segment->statistics(255));
}

}  // namespace
}  // namespace evermap
