// Tests of files that are refused, and of what a damaged or foreign one does (INV-6, INV-7); and of
// the writers' places.
#include "registry/segment.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"
#include "registry/layout.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/siphash.h"
#include "registry/writer_place.h"

namespace evermap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class SegmentTest : public RegistryDirectoryTest {};

TEST_F(SegmentTest, Inv6DamagedSegmentsHarmNobody) {
  {
    auto registry = Open(48);
    for (int i = 0; i < 40; ++i) {
      const std::string name = absl::StrCat("node", i);
      const std::string extra = ExtraOf(static_cast<uint64_t>(i) * 7);
      const RegisterResult node = registry->Register(NodeOf(name, 1, extra));
      if (i % 3 == 0) registry->Unregister(node.slot, node.id);
      if (i % 3 == 1) registry->Orphan(node.slot, node.id);
    }
  }
  const std::string intact = ReadFile(path_);
  const layout::Geometry geometry = layout::GeometryFor(48);
  ASSERT_EQ(intact.size(), geometry.extents_offset + 2 * geometry.extent_size);
  std::mt19937 random(5);
  const int rounds = Scaled(2000);
  for (int i = 0; i < rounds; ++i) {
    std::string damaged = intact;
    // Where it hurts: header, heads, records, and the words about both kinds of extents.
    const uint64_t records = geometry.extents_offset;
    const uint64_t blocks = records + layout::kExtentSize;
    const std::pair<uint64_t, uint64_t> areas[] = {
        {0, sizeof(layout::Header)},
        {geometry.buckets_offset, geometry.buckets * 8},
        {records + layout::kExtentHeadSize, 40 * layout::kRecordSize},
        {i % 3 == 0 ? records : blocks, 512},
    };
    const auto [begin, size] = areas[i % 4];
    const auto flips = 1 + random() % 20;
    for (uint64_t flip = 0; flip < flips; ++flip) {
      char& byte = damaged[begin + random() % size];
      byte = static_cast<char>(byte ^ (1 << random() % 8));
    }
    // Cut short, or with whole extents missing.
    if (i % 50 == 0) damaged.resize(random() % intact.size());
    if (i % 50 == 1) damaged.resize(blocks);
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

TEST_F(SegmentTest, Inv6AndInv7RefusedSegmentsAreLeftAlone) {
  Open(16);
  const std::string intact = ReadFile(path_);
  const auto refused = [&](const std::string& content, const std::string& reason) {
    WriteFile(path_, content);
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(reason), HasSubstr(path_)));
    EXPECT_TRUE(FileHas(path_, content));
  };
  std::string content = intact;
  content[0] = 'X';
  refused(content, "magic");
  content = intact;
  content[8] = 99;
  refused(content, "newer");
  content = intact;
  content[24] = 17;
  refused(content, "checksum");
  refused(intact.substr(0, intact.size() - 4096), "truncated");
  refused(intact.substr(0, 100), "truncated");
  WriteFile(path_, intact);
  chmod(path_.c_str(), 0666);
  EXPECT_FALSE(Registry::Open({.path = path_}).ok());
  chmod(path_.c_str(), 0644);
  EXPECT_NE(Open(), nullptr);
}

// The checksum keeps accidents out; a file with a right one is not trusted either.
TEST_F(SegmentTest, Inv6SizesThatDoNotFitAreRefused) {
  Open(16);
  const std::string intact = ReadFile(path_);
  const auto with = [&](size_t offset, uint64_t value) {
    std::string content = intact;
    memcpy(content.data() + offset, &value, sizeof(value));
    const uint64_t fingerprint =
        SipHash<2, 4>({0x6576657267726565, 0x6e2d6d6170706572},
                      {content.data(), layout::kDescription.header.fingerprint});
    memcpy(content.data() + offsetof(layout::Header, fingerprint), &fingerprint,
           sizeof(fingerprint));
    return content;
  };
  const auto refused = [&](const std::string& content, const std::string& reason) {
    WriteFile(path_, content);
    const std::string message = Refusal();
    EXPECT_THAT(message, HasSubstr(reason));
    std::string error;
    EXPECT_EQ(Reader::Open(path_, error), nullptr);
    EXPECT_EQ(error, message);
  };
  constexpr size_t kCapacity = offsetof(layout::Header, capacity_and_buckets);
  refused(with(kCapacity, layout::Halves(0, 64)), "impossible capacity");
  refused(with(kCapacity, layout::Halves(kRegistryCapacityMax + 1, 64)), "impossible capacity");
  for (const size_t word :
       {offsetof(layout::Header, extents_offset), kCapacity,
        offsetof(layout::Header, record_and_block_size),
        offsetof(layout::Header, statistics_offset), offsetof(layout::Header, buckets_offset),
        offsetof(layout::Header, extent_size_and_max),
        offsetof(layout::Header, records_and_blocks_of_extent)}) {
    uint64_t value = 0;
    memcpy(&value, intact.data() + word, sizeof(value));
    // Of the two halves of the capacity, the buckets.
    refused(with(word, value + (uint64_t{1} << 32)), "do not fit together");
  }
  constexpr size_t kVersion = offsetof(layout::Header, version_and_header_size);
  refused(with(kVersion, layout::Halves(layout::kLayoutVersion, 1)), "do not fit together");
  WriteFile(path_, intact);
  EXPECT_NE(Open(), nullptr);
}

TEST_F(SegmentTest, Inv6AReaderAsksWhoseTheFileIs) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  constexpr uid_t kAlice = 64101;
  Open(16);
  std::string error;
  const auto is_read = [&] { return Reader::Open(path_, error) != nullptr; };
  EXPECT_TRUE(is_read()) << error;
  ASSERT_EQ(chown(path_.c_str(), kAlice, kAlice), 0);
  EXPECT_FALSE(is_read());
  EXPECT_NE(error.find("belongs to user 64101"), std::string::npos) << error;
  // Alice's, in a directory that is all hers.
  ASSERT_EQ(chown(directory_, kAlice, kAlice), 0);
  ASSERT_EQ(chmod(directory_, 0755), 0);
  EXPECT_TRUE(is_read()) << error;
  ASSERT_EQ(chmod(directory_, 0775), 0);
  EXPECT_FALSE(is_read());
  ASSERT_EQ(chmod(directory_, 0777), 0);
  EXPECT_FALSE(is_read());
}

TEST_F(SegmentTest, AWriterTakesNothingOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Open(16);
  ASSERT_EQ(chown(path_.c_str(), 64101, 64101), 0);
  const absl::Status refused = Registry::Open({.path = path_}).status();
  EXPECT_NE(std::string(refused.message()).find("belongs to user 64101, not to user 0"),
            std::string::npos)
      << refused;
}

TEST_F(SegmentTest, AReaderMayPassThroughADirectoryThatItMayNotList) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Open(16);
  const auto is_read_by_alice = [&] {
    const pid_t child = fork();
    if (child == 0) {
      std::string error;
      _exit(setuid(64101) == 0 && Reader::Open(path_, error) != nullptr ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status == 0;
  };
  ASSERT_EQ(chmod(directory_, 0711), 0);
  EXPECT_TRUE(is_read_by_alice());
  ASSERT_EQ(chmod(directory_, 0700), 0);
  EXPECT_FALSE(is_read_by_alice());
}

TEST_F(SegmentTest, ALockThatOthersMayOpenIsRefused) {
  Open(16);
  const std::string lock = path_ + ".lock";
  const auto refused = [&](const std::string& reason) {
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(reason), HasSubstr(lock)));
  };
  for (const mode_t mode : {0660U, 0606U, 0644U}) {
    ASSERT_EQ(chmod(lock.c_str(), mode), 0);
    refused("may open");
  }
  if (geteuid() == 0) {
    ASSERT_EQ(chmod(lock.c_str(), 0600), 0);
    ASSERT_EQ(chown(lock.c_str(), 64101, 64101), 0);
    refused("may open");
  }
  unlink(lock.c_str());
  ASSERT_EQ(symlink("/dev/null", lock.c_str()), 0);
  refused("cannot be opened");
  unlink(lock.c_str());
  ASSERT_EQ(mkfifo(lock.c_str(), 0600), 0);
  refused("may open");
  unlink(lock.c_str());
  EXPECT_NE(Open(), nullptr);
}

TEST_F(SegmentTest, WritersHaveAPlaceEach) {
  std::vector<std::unique_ptr<Registry>> writers;
  for (uint32_t i = 0; i < kWritersMax; ++i) writers.push_back(Open(16));
  const auto one_more = Registry::Open({.path = path_});
  EXPECT_TRUE(absl::IsUnavailable(one_more.status())) << one_more.status();
  writers.pop_back();
  EXPECT_NE(Open(), nullptr);
}

TEST_F(SegmentTest, WhoOpensWaitsForAnotherThatDoes) {
  Open(16);
  const OwnedFd lock(open((path_ + ".lock").c_str(), O_RDWR | O_CLOEXEC));
  struct flock opening = {};
  opening.l_type = F_WRLCK;
  opening.l_whence = SEEK_SET;
  opening.l_len = 1;
  ASSERT_EQ(fcntl(lock.get(), F_OFD_SETLK, &opening), 0);
  const auto registry = Registry::Open({.path = path_});
  EXPECT_TRUE(absl::IsUnavailable(registry.status())) << registry.status();
  EXPECT_NE(std::string(registry.status().message()).find("lslocks"), std::string::npos);
}

TEST_F(SegmentTest, WhatCannotBeOpened) {
  for (const uint32_t capacity : {0u, kRegistryCapacityMax + 1}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(Registry::Open({.path = path_, .capacity = capacity}).status()));
  }
  const auto nowhere = Registry::Open({.path = "/nonexistent/registry"});
  EXPECT_NE(std::string(nowhere.status().message()).find("/nonexistent"), std::string::npos);
  std::string error;
  EXPECT_EQ(Reader::Open(path_ + "/registry", error), nullptr);
  EXPECT_EQ(Reader::Open(std::string(1 << 14, 'x'), error), nullptr);
  EXPECT_EQ(Reader::Open(absl::StrCat("/", std::string(300, 'x')), error), nullptr);
  EXPECT_EQ(Reader::Open(directory_, error), nullptr);
  EXPECT_NE(std::string(Registry::Open({.path = directory_}).status().message())
                .find("is not a regular file"),
            std::string::npos);
}

}  // namespace
}  // namespace evermap
