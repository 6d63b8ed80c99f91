// The reader for other programs against registries as the mapper writes them, and against everything else that may lie
// where a registry is expected (INV-1, INV-6).
#include "tools/erlang/c_src/evermap_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "registry/owner.h"
#include "registry/registration.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"

namespace evermap {
namespace {

// Of a registry's header (registry/layout.h), in bytes.
constexpr uint64_t kVersionAt = 8;
constexpr uint64_t kFingerprintAt = 96;
constexpr uint64_t kBootAt = 104;
constexpr uint64_t kSupersededAt = 120;
constexpr uint64_t kNamespaceAt = 144;
constexpr uint64_t kPortAt = 152;
constexpr uint64_t kIsCookie = uint64_t{1} << 16;
constexpr uint64_t kHeaderSize = 4096;

constexpr uint16_t kPort = 4369;

void WriteWord(const std::string& path, uint64_t at, uint64_t word) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0) << strerror(errno);
  EXPECT_EQ(pwrite(fd, &word, sizeof(word), static_cast<off_t>(at)), ssize_t{sizeof(word)});
  close(fd);
}

// As the mapper does that takes over a registry (registry/claim.h).
void WriteOwnerOf(const std::string& path) {
  const NetworkNamespace own = OwnNetworkNamespace();
  WriteWord(path, kNamespaceAt, own.number);
  WriteWord(path, kPortAt, kPort | (own.is_cookie ? kIsCookie : 0));
}

struct Closer {
  void operator()(evermap_reader* reader) const { evermap_reader_close(reader); }
};
using ReaderPtr = std::unique_ptr<evermap_reader, Closer>;

// What a caller knows that is told of changes.
struct Picture {
  std::map<uint32_t, std::string> names;
  int told = 0;
  evermap_reader_seen seen = {};

  ~Picture() { evermap_reader_forget(&seen); }
  evermap_reader_status Update(const evermap_reader* reader) {
    return evermap_reader_changes(reader, &seen, &Picture::Tell, this);
  }
  static void Tell(void* context, uint32_t slot, const evermap_reader_node* node) {
    auto* const self = static_cast<Picture*>(context);
    ++self->told;
    if (node == nullptr) {
      self->names.erase(slot);
    } else {
      EXPECT_EQ(node->slot, slot);
      self->names[slot] = std::string(node->name, node->name_size);
    }
  }
};

class ForeignReaderTest : public RegistryDirectoryTest {
 protected:
  std::unique_ptr<Registry> OpenOwned(uint32_t capacity = 4096) {
    std::unique_ptr<Registry> registry = Open(capacity);
    WriteOwnerOf(path_);
    return registry;
  }
  ReaderPtr Read() {
    evermap_reader_error error;
    ReaderPtr reader(evermap_reader_open(path_.c_str(), &error));
    EXPECT_NE(reader, nullptr) << error.text;
    return reader;
  }
  // Why the file is not accepted.
  evermap_reader_status Refused() {
    evermap_reader_error error = {};
    const ReaderPtr reader(evermap_reader_open(path_.c_str(), &error));
    EXPECT_EQ(reader, nullptr);
    EXPECT_NE(error.text[0], '\0');
    return error.status;
  }
  static evermap_reader_status Lookup(const ReaderPtr& reader, std::string_view name,
                                      evermap_reader_node& node) {
    return evermap_reader_lookup(reader.get(), name.data(), name.size(), &node);
  }
};

TEST_F(ForeignReaderTest, FindsWhatIsRegistered) {
  const std::unique_ptr<Registry> registry = OpenOwned();
  std::map<std::string, std::string> nodes;
  for (const size_t name_size : {1u, 7u, 8u, 9u, 159u, 160u, 161u, 1020u}) {
    for (const size_t extra_size : {0u, 1u, 90u, 1020u}) {
      std::string name = absl::StrCat(name_size < 9 ? "" : absl::StrCat(extra_size, "x"));
      name.resize(name_size, static_cast<char>('a' + extra_size % 23));
      nodes[name] = std::string(extra_size, 'e');
    }
  }
  uint16_t port = 1000;
  for (const auto& [name, extra] : nodes) {
    const RegisterResult made = registry->Register({.name = name,
                                                    .extra = extra,
                                                    .port = port++,
                                                    .node_type = 77,
                                                    .highest_version = 6,
                                                    .lowest_version = 5});
    ASSERT_EQ(made.outcome, RegisterResult::Outcome::kRegistered);
  }
  const ReaderPtr reader = Read();
  ASSERT_NE(reader, nullptr);
  evermap_reader_node node;
  port = 1000;
  for (const auto& [name, extra] : nodes) {
    ASSERT_EQ(Lookup(reader, name, node), EVERMAP_READER_OK) << name;
    Registration expected;
    ASSERT_TRUE(registry->Lookup(name, expected));
    EXPECT_EQ(std::string_view(node.name, node.name_size), name);
    EXPECT_EQ(std::string_view(node.extra, node.extra_size), extra);
    EXPECT_EQ(node.port, port++);
    EXPECT_EQ(node.id, expected.id);
    EXPECT_EQ(node.creation, expected.creation);
    EXPECT_EQ(node.since_unix_ns, expected.since_unix_ns);
    EXPECT_EQ(node.node_type, 77);
    EXPECT_EQ(node.highest_version, 6);
    EXPECT_EQ(node.lowest_version, 5);
    EXPECT_EQ(node.state, EVERMAP_READER_LIVE);
  }
  EXPECT_EQ(Lookup(reader, "nobody", node), EVERMAP_READER_NOT_FOUND);
  EXPECT_EQ(Lookup(reader, "", node), EVERMAP_READER_NOT_FOUND);
  EXPECT_EQ(Lookup(reader, std::string(2000, 'a'), node), EVERMAP_READER_NOT_FOUND);

  const RegisterResult one = registry->Register({.name = "one"});
  ASSERT_TRUE(registry->Orphan(one.slot, one.id));
  ASSERT_EQ(Lookup(reader, "one", node), EVERMAP_READER_OK);
  EXPECT_EQ(node.state, EVERMAP_READER_ORPHANED);
  ASSERT_TRUE(registry->Unregister(one.slot, one.id));
  EXPECT_EQ(Lookup(reader, "one", node), EVERMAP_READER_NOT_FOUND);
}

// The file gets longer under an open reader.
TEST_F(ForeignReaderTest, FindsWhatIsRegisteredLater) {
  const std::unique_ptr<Registry> registry = OpenOwned();
  const ReaderPtr reader = Read();
  evermap_reader_node node;
  for (int i = 0; i < 1500; ++i) {
    const std::string name = absl::StrCat("node", i);
    const std::string extra(static_cast<size_t>(i % 400), 'x');
    ASSERT_EQ(registry->Register({.name = name, .extra = extra}).outcome,
              RegisterResult::Outcome::kRegistered);
    ASSERT_EQ(Lookup(reader, name, node), EVERMAP_READER_OK) << name;
    ASSERT_EQ(node.extra_size, extra.size());
  }
  Picture picture;
  ASSERT_EQ(picture.Update(reader.get()), EVERMAP_READER_OK);
  EXPECT_EQ(picture.names.size(), 1500u);
}

TEST_F(ForeignReaderTest, TellsOfChangesAndOfNothingElse) {
  const std::unique_ptr<Registry> registry = OpenOwned();
  const RegisterResult a = registry->Register({.name = "a"});
  const RegisterResult b = registry->Register({.name = std::string(900, 'b')});
  const ReaderPtr reader = Read();
  Picture picture;
  ASSERT_EQ(picture.Update(reader.get()), EVERMAP_READER_OK);
  EXPECT_EQ(picture.names.size(), 2u);
  ASSERT_EQ(picture.Update(reader.get()), EVERMAP_READER_OK);
  EXPECT_EQ(picture.told, 2);
  registry->Unregister(a.slot, a.id);
  registry->Orphan(b.slot, b.id);
  ASSERT_EQ(picture.Update(reader.get()), EVERMAP_READER_OK);
  EXPECT_EQ(picture.told, 4);
  EXPECT_EQ(picture.names.size(), 1u);
  // The name comes back at once: what is told is the later registration.
  registry->Unregister(b.slot, b.id);
  registry->Register({.name = std::string(900, 'b')});
  ASSERT_EQ(picture.Update(reader.get()), EVERMAP_READER_OK);
  EXPECT_EQ(picture.names.size(), 1u);
}

TEST_F(ForeignReaderTest, SaysWhoseRegistryItIs) {
  const std::unique_ptr<Registry> registry = OpenOwned(1000);
  ASSERT_TRUE(registry != nullptr);
  registry->SetMapperStatus({.pid = 77, .started_unix_ns = 88, .version = "1.2.3"});
  registry->Register({.name = "a"});
  const ReaderPtr reader = Read();
  evermap_reader_facts facts;
  ASSERT_EQ(evermap_reader_get_facts(reader.get(), &facts), EVERMAP_READER_OK);
  EXPECT_EQ(facts.mapper_pid, 77u);
  EXPECT_EQ(facts.started_unix_ns, 88);
  EXPECT_STREQ(facts.mapper_version, "1.2.3");
  EXPECT_EQ(facts.port, kPort);
  EXPECT_EQ(facts.capacity, 1000u);
  EXPECT_EQ(facts.slots_used, 1u);
  EXPECT_GT(facts.generation, 0u);
  EXPECT_EQ(facts.layout_version, 3u);
}

TEST_F(ForeignReaderTest, RefusesWhatIsNotMeantForIt) {
  OpenOwned().reset();
  const std::string valid = ReadFile(path_);
  ASSERT_NE(Read(), nullptr);

  WriteWord(path_, kNamespaceAt, 0);
  EXPECT_EQ(Refused(), EVERMAP_READER_OTHER_NAMESPACE);
  WriteWord(path_, kNamespaceAt, OwnNetworkNamespace().number + 1);
  EXPECT_EQ(Refused(), EVERMAP_READER_OTHER_NAMESPACE);
  WriteFile(path_, valid);
  // A number of the other kind says nothing.
  WriteWord(path_, kPortAt, kPort | (OwnNetworkNamespace().is_cookie ? 0 : kIsCookie));
  EXPECT_EQ(Refused(), EVERMAP_READER_OTHER_NAMESPACE);
  WriteFile(path_, valid);
  WriteWord(path_, kBootAt, 1);
  EXPECT_EQ(Refused(), EVERMAP_READER_OTHER_BOOT);
  WriteFile(path_, valid);
  WriteWord(path_, kVersionAt, 4 | kHeaderSize << 32);
  EXPECT_EQ(Refused(), EVERMAP_READER_UNKNOWN_LAYOUT);
  WriteFile(path_, valid);
  WriteWord(path_, kFingerprintAt, 1);
  EXPECT_EQ(Refused(), EVERMAP_READER_DAMAGED);
  WriteFile(path_, "short");
  EXPECT_EQ(Refused(), EVERMAP_READER_DAMAGED);
  WriteFile(path_, valid);
  WriteWord(path_, kSupersededAt, 1);
  EXPECT_EQ(Refused(), EVERMAP_READER_OUTDATED);
}

TEST_F(ForeignReaderTest, RefusesWhatCouldBeAnybodys) {
  OpenOwned().reset();
  ASSERT_NE(Read(), nullptr);
  for (const mode_t mode : {0666u, 0664u, 0646u}) {
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    EXPECT_EQ(Refused(), EVERMAP_READER_NOT_TRUSTED);
  }
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  if (geteuid() == 0) {
    // The file of another user is trusted only where that user alone is in charge of the directory.
    ASSERT_EQ(chown(path_.c_str(), 4711, 4711), 0);
    EXPECT_EQ(Refused(), EVERMAP_READER_NOT_TRUSTED);
    ASSERT_EQ(chown(directory_, 4711, 4711), 0);
    EXPECT_NE(Read(), nullptr);
    ASSERT_EQ(chown(directory_, 0, 0), 0);
  }
  const std::string kept = path_ + ".kept";
  ASSERT_EQ(rename(path_.c_str(), kept.c_str()), 0);
  EXPECT_EQ(Refused(), EVERMAP_READER_NO_REGISTRY);
  ASSERT_EQ(symlink(kept.c_str(), path_.c_str()), 0);
  EXPECT_EQ(Refused(), EVERMAP_READER_NOT_TRUSTED);
  unlink(path_.c_str());
  ASSERT_EQ(mkfifo(path_.c_str(), 0644), 0);
  EXPECT_EQ(Refused(), EVERMAP_READER_NOT_TRUSTED);
  unlink(path_.c_str());
  ASSERT_EQ(mkdir(path_.c_str(), 0755), 0);
  EXPECT_EQ(Refused(), EVERMAP_READER_NOT_TRUSTED);
  rmdir(path_.c_str());
  evermap_reader_error error;
  EXPECT_EQ(evermap_reader_open(std::string(600, 'p').c_str(), &error), nullptr);
  EXPECT_EQ(evermap_reader_open("/nonexistent/registry", nullptr), nullptr);
}

TEST_F(ForeignReaderTest, KnowsWhenAnotherFileHasTakenItsPlace) {
  OpenOwned().reset();
  const ReaderPtr reader = Read();
  EXPECT_EQ(evermap_reader_check(reader.get()), EVERMAP_READER_OK);
  WriteWord(path_, kSupersededAt, 1);
  EXPECT_EQ(evermap_reader_check(reader.get()), EVERMAP_READER_OUTDATED);
  WriteWord(path_, kSupersededAt, 0);
  unlink(path_.c_str());
  EXPECT_EQ(evermap_reader_check(reader.get()), EVERMAP_READER_OUTDATED);
}

TEST_F(ForeignReaderTest, FindsTheRegistryOfAPort) {
  path_ = absl::StrCat(directory_, "/registry.", kPort);
  OpenOwned().reset();
  ASSERT_EQ(setenv("RUNTIME_DIRECTORY", directory_, 1), 0);
  const char* const process = getenv("SYSTEMD_EXEC_PID");
  const std::string kept = process == nullptr ? "" : process;
  unsetenv("SYSTEMD_EXEC_PID");
  evermap_reader_error error;
  ReaderPtr reader(evermap_reader_open_port(kPort, &error));
  ASSERT_NE(reader, nullptr) << error.text;
  // A registry that belongs to another port is none of this one.
  ASSERT_EQ(rename(path_.c_str(), absl::StrCat(directory_, "/registry.9").c_str()), 0);
  reader.reset(evermap_reader_open_port(9, &error));
  EXPECT_EQ(reader, nullptr);
  EXPECT_EQ(error.status, EVERMAP_READER_NO_REGISTRY);
  // What systemd has said to another process is not said to this one.
  ASSERT_EQ(setenv("SYSTEMD_EXEC_PID", "1", 1), 0);
  char paths[EVERMAP_READER_CANDIDATES_MAX][EVERMAP_READER_PATH_SIZE];
  const int count = evermap_reader_candidates(9, paths);
  ASSERT_GE(count, 1);
  EXPECT_EQ(std::string(paths[0]).find(directory_), std::string::npos);
  EXPECT_STREQ(paths[count - 1], "/run/epmd/registry.9");
  unsetenv("RUNTIME_DIRECTORY");
  unsetenv("SYSTEMD_EXEC_PID");
  if (!kept.empty()) setenv("SYSTEMD_EXEC_PID", kept.c_str(), 1);
}

// Port, creation and extra of a registration that is found are always of one and the same.
TEST_F(ForeignReaderTest, Inv1LookupsNeverMixTwoRegistrations) {
  const std::unique_ptr<Registry> registry = OpenOwned(64);
  const ReaderPtr reader = Read();
  std::atomic<bool> is_over{false};
  std::thread writer([&] {
    for (uint16_t i = 1; !is_over; i = static_cast<uint16_t>(i % 1000 + 1)) {
      const std::string extra(i, static_cast<char>('a' + i % 26));
      const RegisterResult made = registry->Register({.name = "same", .extra = extra, .port = i});
      // Another takes its record, so that the block of text is another's, too.
      const RegisterResult other =
          registry->Register({.name = absl::StrCat("o", i), .extra = extra});
      registry->Unregister(made.slot, made.id);
      registry->Unregister(other.slot, other.id);
    }
  });
  int found = 0;
  Picture picture;
  // The other thread may begin late.
  for (int i = 0; i < Scaled(20'000) || found == 0; ++i) {
    evermap_reader_node node;
    const evermap_reader_status status = Lookup(reader, "same", node);
    ASSERT_TRUE(status == EVERMAP_READER_OK || status == EVERMAP_READER_NOT_FOUND ||
                status == EVERMAP_READER_BUSY)
        << status;
    if (status == EVERMAP_READER_OK) {
      ++found;
      ASSERT_EQ(node.extra_size, node.port);
      ASSERT_EQ(std::string(node.extra, node.extra_size),
                std::string(node.port, static_cast<char>('a' + node.port % 26)));
    }
    const evermap_reader_status changes = picture.Update(reader.get());
    ASSERT_TRUE(changes == EVERMAP_READER_OK || changes == EVERMAP_READER_BUSY) << changes;
  }
  is_over = true;
  writer.join();
  // Once it is quiet nothing has been missed.
  ASSERT_EQ(picture.Update(reader.get()), EVERMAP_READER_OK);
  EXPECT_TRUE(picture.names.empty());
}

// Uses a file in every way.
void UseAll(const ReaderPtr& reader) {
  evermap_reader_node node;
  evermap_reader_facts facts;
  evermap_reader_seen seen = {};
  evermap_reader_check(reader.get());
  evermap_reader_get_facts(reader.get(), &facts);
  for (int i = 0; i < 40; ++i) {
    const std::string name =
        i % 8 == 7 ? std::string(500, static_cast<char>('a' + i)) : absl::StrCat("node", i);
    const evermap_reader_status status =
        evermap_reader_lookup(reader.get(), name.data(), name.size(), &node);
    if (status == EVERMAP_READER_OK) {
      EXPECT_EQ(std::string_view(node.name, node.name_size), name);
      EXPECT_EQ(node.name[node.name_size], '\0');
    }
  }
  int told = 0;
  const auto count = [](void* context, uint32_t, const evermap_reader_node* found) {
    if (found != nullptr) {
      EXPECT_LE(found->name_size, EVERMAP_READER_NAME_SIZE_MAX);
    }
    ++*static_cast<int*>(context);
  };
  for (int i = 0; i < 2; ++i) evermap_reader_changes(reader.get(), &seen, count, &told);
  evermap_reader_forget(&seen);
}

TEST_F(ForeignReaderTest, Inv6DamagedFilesAreErrorsOrWrongAnswers) {
  {
    const std::unique_ptr<Registry> registry = OpenOwned(64);
    for (int i = 0; i < 40; ++i) {
      const std::string name =
          i % 8 == 7 ? std::string(500, static_cast<char>('a' + i)) : absl::StrCat("node", i);
      const std::string extra(i % 3 == 0 ? 700 : 3, 'x');
      const RegisterResult made = registry->Register({.name = name, .extra = extra});
      if (i % 5 == 0) registry->Unregister(made.slot, made.id);
      if (i % 5 == 1) registry->Orphan(made.slot, made.id);
    }
  }
  const std::string valid = ReadFile(path_);
  std::mt19937 random(4711);
  const auto below = [&random](uint64_t end) { return random() % end; };
  int accepted = 0;
  for (int round = 0; round < Scaled(3000); ++round) {
    std::string content = valid;
    const uint64_t changes = below(40);
    for (uint64_t i = 0; i < changes; ++i) {
      // Behind what the checksum covers, in the owner seldom, and where something is mostly.
      const uint64_t begin = below(4) == 0 ? 160 : 266'240;
      const uint64_t at = begin + below(content.size() - begin - 8) / 8 * 8;
      uint64_t word;
      std::memcpy(&word, &content[at], 8);
      switch (below(4)) {
        case 0:
          word = random();
          break;
        case 1:
          word ^= uint64_t{1} << below(64);
          break;
        case 2:  // a word from elsewhere
          std::memcpy(&word, &content[begin + below(content.size() - begin - 8) / 8 * 8], 8);
          break;
        default:
          word = ~uint64_t{0} << below(64);
      }
      std::memcpy(&content[at], &word, 8);
    }
    if (below(4) == 0) content.resize(below(content.size()));
    WriteFile(path_, content);
    evermap_reader_error error;
    const ReaderPtr reader(evermap_reader_open(path_.c_str(), &error));
    if (reader == nullptr) {
      EXPECT_NE(error.text[0], '\0');
      continue;
    }
    ++accepted;
    UseAll(reader);
  }
  EXPECT_GT(accepted, 0);
}

// Chains that lead round in circles, to each other and to everywhere.
TEST_F(ForeignReaderTest, Inv6ChainsWithoutEndAreLeft) {
  OpenOwned(64).reset();
  std::string content = ReadFile(path_);
  for (uint64_t at = 266'240; at < 266'240 + 64 * 8; at += 8) {
    const uint64_t link = uint64_t{1 + at / 8 % 3} << 32;
    std::memcpy(&content[at], &link, 8);
  }
  const uint64_t records = 266'240 + 4096 + 4096;
  for (uint64_t i = 0; i < 3; ++i) {
    const uint64_t link = ((i + 1) % 3 + 1) << 32;
    std::memcpy(&content[records + i * 256 + 8], &link, 8);
  }
  WriteFile(path_, content);
  const ReaderPtr reader = Read();
  ASSERT_NE(reader, nullptr);
  evermap_reader_node node;
  EXPECT_EQ(Lookup(reader, "any", node), EVERMAP_READER_DAMAGED);
}

// The file is cut short while it is open, to each size.
TEST_F(ForeignReaderTest, Inv6ShrunkenFilesDoNotEndTheirReader) {
  {
    const std::unique_ptr<Registry> registry = OpenOwned(64);
    for (int i = 0; i < 40; ++i) registry->Register({.name = absl::StrCat("node", i)});
  }
  const std::string valid = ReadFile(path_);
  for (size_t size = 0; size < valid.size(); size += 1021) {
    WriteFile(path_, valid);
    const ReaderPtr reader = Read();
    ASSERT_NE(reader, nullptr);
    ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(size)), 0);
    UseAll(reader);
    evermap_reader_node node;
    EXPECT_NE(Lookup(reader, "node1", node), EVERMAP_READER_NOT_FOUND) << size;
  }
}

}  // namespace
}  // namespace evermap
