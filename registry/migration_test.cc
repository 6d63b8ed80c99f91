// Tests of migration (INV-7) from the layout of today, which registry_writer writes, to the throw-away
// one of tests/next_layout, which this test is compiled with: two programs that differ in the header,
// the records and where texts and counters lie.
#include "registry/migration.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "registry/layout.h"
#include "registry/layout_v2.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"
#include "registry/counters.h"

namespace evermap {
namespace {

using Outcome = RegisterResult::Outcome;

static_assert(layout::kLayoutVersion == 3);
constexpr uint32_t kOldVersion = 2;
constexpr uint32_t kNewVersion = 3;

// Beyond the last step of each.
constexpr int kStepsMax = 10;

std::string WriterProgram() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "registry_writer";
}

// A mapper with the old layout. Ends, killed, with the object.
class OldMapper {
 public:
  explicit OldMapper(std::vector<std::string> arguments) {
    int commands[2];
    int answers[2];
    EXPECT_EQ(pipe2(commands, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(answers, O_CLOEXEC), 0);
    const std::string program = WriterProgram();
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(commands[0], STDIN_FILENO);
      dup2(answers[1], STDOUT_FILENO);
      execv(program.c_str(), argv.data());
      _exit(127);
    }
    close(commands[0]);
    close(answers[1]);
    commands_ = commands[1];
    answers_ = fdopen(answers[0], "r");
  }
  ~OldMapper() { Kill(); }
  OldMapper(const OldMapper&) = delete;
  OldMapper& operator=(const OldMapper&) = delete;

  // "" when it has ended.
  std::string ReadLine() {
    char* line = nullptr;
    size_t size = 0;
    const ssize_t length = getline(&line, &size, answers_);
    std::string text(line, length > 0 ? static_cast<size_t>(length) - 1 : 0);
    free(line);
    return text;
  }
  std::string Tell(const std::string& command) {
    const std::string line = command + "\n";
    if (write(commands_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) return "";
    return ReadLine();
  }
  std::vector<std::string> Dump() {
    std::vector<std::string> lines;
    for (std::string line = Tell("dump"); line != "end" && !line.empty(); line = ReadLine()) {
      lines.push_back(std::move(line));
    }
    return lines;
  }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
    close(commands_);
    fclose(answers_);
  }

 private:
  pid_t pid_ = 0;
  int commands_ = -1;
  FILE* answers_ = nullptr;
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  chmod(path.c_str(), 0644);
}
uint32_t VersionOfFile(const std::string& content) {
  return content.size() < 12 ? 0 : static_cast<unsigned char>(content[8]);
}
// The content but for the word that may change.
std::string Unmarked(std::string content) {
  constexpr size_t kAt = layout::kSupersededAt;
  if (content.size() >= kAt + 8) content.replace(kAt, 8, 8, '\0');
  return content;
}

std::vector<std::string> DumpOf(const RegistryView& view) {
  std::vector<std::string> lines;
  Registration node;
  Registration found;
  for (uint32_t slot = 0; slot < view.slots_used(); ++slot) {
    if (!view.ReadSlot(slot, node)) continue;
    lines.push_back(Describe(node));
    const bool is_found = view.Lookup(node.name(), found);
    EXPECT_EQ(is_found, node.state != RegistrationState::kRemembered) << node.name();
    if (is_found) {
      EXPECT_EQ(Describe(found), lines.back());
    }
  }
  return lines;
}
std::vector<std::string> DumpOf(const std::string& path) {
  std::string error;
  const auto reader = Reader::Open(path, error);
  EXPECT_NE(reader, nullptr) << error;
  return reader == nullptr ? std::vector<std::string>{} : DumpOf(reader->view());
}

class MigrationTest : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = absl::StrCat(directory_, "/registry");
  }
  void TearDown() override {
    for (const std::string& name : Names()) unlink(absl::StrCat(directory_, "/", name).c_str());
    EXPECT_EQ(rmdir(directory_), 0);
  }

  std::set<std::string> Names() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      names.insert(entry.path().filename());
    }
    return names;
  }
  std::unique_ptr<OldMapper> StartOld() {
    auto old = std::make_unique<OldMapper>(std::vector<std::string>{path_});
    EXPECT_EQ(old->ReadLine(), "OK");
    return old;
  }
  std::unique_ptr<Registry> Open() {
    auto registry = Registry::Open({.path = path_, .capacity = 100});
    EXPECT_TRUE(registry.ok()) << registry.status();
    return registry.ok() ? *std::move(registry) : nullptr;
  }
  bool NeedsMigration() {
    const auto needs = Registry::NeedsMigration(path_);
    EXPECT_TRUE(needs.ok()) << needs.status();
    return needs.ok() && *needs;
  }
  ino_t Inode(const std::string& path) {
    struct stat file = {};
    EXPECT_EQ(stat(path.c_str(), &file), 0) << path;
    return file.st_ino;
  }
  // Opens the registry in a process that is killed before `step` of what Open() does; true when it
  // was.
  bool OpenAndCrash(int step) {
    const pid_t child = fork();
    EXPECT_GE(child, 0);
    if (child == 0) {
      static int crash_at;
      crash_at = step;
      SetMigrationHookForTests([](int reached) {
        if (reached == crash_at) raise(SIGKILL);
      });
      _exit(Registry::Open({.path = path_}).ok() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) || status == 0) << status;
    return WIFSIGNALED(status);
  }

  char directory_[32] = "/dev/shm/migration-test-XXXXXX";
  std::string path_;
};

TEST_F(MigrationTest, Inv7NothingIsLost) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  ASSERT_GT(before.size(), 200u);
  old->Kill();
  const std::string content = ReadFile(path_);
  EXPECT_EQ(VersionOfFile(content), kOldVersion);
  EXPECT_TRUE(NeedsMigration());
  EXPECT_EQ(ReadFile(path_), content);
  // A reader of today reads the old layout as it is.
  EXPECT_EQ(DumpOf(path_), before);
  std::string error;
  const auto old_reader = Reader::Open(path_, error);
  ASSERT_EQ(link(path_.c_str(), absl::StrCat(path_, ".kept").c_str()), 0);

  auto registry = Open();
  ASSERT_NE(registry, nullptr);
  EXPECT_FALSE(NeedsMigration());
  EXPECT_EQ(DumpOf(path_), before);
  EXPECT_EQ(registry->capacity(), 1000u);
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    for (const WorkerStatistics* statistics :
         {&std::as_const(old_reader->view()).statistics(worker),
          static_cast<const WorkerStatistics*>(&registry->statistics(worker))}) {
      ASSERT_EQ(statistics->connections_accepted.load(), worker * 1000 + 1);
      ASSERT_EQ(statistics->connections_now.load(), worker * 1000 + 2);
      ASSERT_EQ(statistics->stored.load(), worker * 1000 + 3);
      ASSERT_EQ(statistics->latency_buckets[kLatencyBuckets - 1].load(), worker * 1000 + 4);
    }
  }
  EXPECT_EQ(registry->mapper_status().version, "old");
  EXPECT_EQ(registry->upgrade_status().number, 41u);
  EXPECT_EQ(registry->upgrade_status().text, "because");
  EXPECT_GT(registry->generation(), old_reader->view().generation());

  // The old file says where to look, and is as it was otherwise; its name goes when nobody wants it
  // back.
  EXPECT_TRUE(old_reader->view().superseded());
  EXPECT_FALSE(registry->superseded());
  EXPECT_EQ(Unmarked(ReadFile(absl::StrCat(path_, ".kept"))), content);
  EXPECT_TRUE(Names().contains("registry.previous"));
  registry->FinishMigration();
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.kept", "registry.lock"}));

  // Life goes on: INV-4 and INV-5.
  Registration node;
  uint64_t last_id = 0;
  registry->ForEach([&](const Registration& each) { last_id = std::max(last_id, each.id); });
  for (uint32_t slot = 0; slot < 300; ++slot) {
    ASSERT_TRUE(registry->ReadSlot(slot, node));
    const std::string name(node.name());
    const RegisterResult again = registry->Register(NodeOf(name, 3, ExtraOf(3)));
    if (node.state != RegistrationState::kRemembered) {
      ASSERT_EQ(again.outcome, Outcome::kTaken);
      ASSERT_TRUE(registry->Unregister(node.slot, node.id));
    } else {
      ASSERT_EQ(again.outcome, Outcome::kRegistered);
      ASSERT_EQ(again.creation, node.creation + 1);
      ASSERT_EQ(again.slot, node.slot);
      ASSERT_GT(again.id, last_id);
    }
  }
  EXPECT_EQ(registry->Register({.name = "new"}).outcome, Outcome::kRegistered);
}

TEST_F(MigrationTest, Inv3Inv7HalfDoneOperationsAreSettled) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  ASSERT_EQ(old->Tell("half"), "ok");
  old->Kill();
  ASSERT_EQ(link(path_.c_str(), absl::StrCat(path_, ".kept").c_str()), 0);
  auto registry = Open();
  ASSERT_NE(registry, nullptr);
  // As the old code itself recovers it, except that an amendment is settled anew.
  const std::vector<std::string> migrated = DumpOf(path_);
  unlink(absl::StrCat(path_, ".lock").c_str());
  ASSERT_EQ(rename(absl::StrCat(path_, ".kept").c_str(), path_.c_str()), 0);
  const std::vector<std::string> recovered = StartOld()->Dump();
  ASSERT_EQ(migrated.size(), recovered.size());
  int departures = 0;
  for (size_t i = 0; i < migrated.size(); ++i) {
    if (migrated[i] == recovered[i]) continue;
    // The clock has gone on between the two.
    const auto without_departure = [](const std::string& line) {
      return std::pair<std::string, std::string>(line.substr(0, line.find(" left ")),
                                                 line.substr(line.find(" name ")));
    };
    EXPECT_EQ(without_departure(migrated[i]), without_departure(recovered[i]));
    ++departures;
  }
  EXPECT_EQ(departures, 2) << "unregistered and reregistering";
  const auto state_of = [&](const std::string& name) {
    std::string state = "none";
    registry->ForEach([&](const Registration& node) {
      if (node.name() == name) state = absl::StrCat(static_cast<int>(node.state));
    });
    return state;
  };
  EXPECT_EQ(state_of("amending"), "0");
  EXPECT_EQ(state_of("adopting"), "1");
  EXPECT_EQ(state_of("unregistered"), "2");
  EXPECT_EQ(state_of("reregistering"), "2");
  EXPECT_EQ(state_of("retiring"), "none");
  EXPECT_EQ(state_of("unlinked"), "none");
  for (const char* name : {"unregistered", "reregistering", "retiring", "unlinked"}) {
    EXPECT_EQ(registry->Register({.name = name}).outcome, Outcome::kRegistered) << name;
  }
}

TEST_F(MigrationTest, Inv3Inv7WritersKilledAnywhereLoseNothingInAMigration) {
  const std::string log_path = absl::StrCat(path_, ".log");
  std::mt19937 random(11);
  const int rounds = Scaled(150);
  for (int round = 0; round < rounds; ++round) {
    unlink(path_.c_str());
    WriteFile(log_path, std::string(sizeof(VictimLog), '\0'));
    const int fd = open(log_path.c_str(), O_RDWR | O_CLOEXEC);
    void* memory = mmap(nullptr, sizeof(VictimLog), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    ASSERT_NE(memory, MAP_FAILED);
    auto* log = static_cast<VictimLog*>(memory);
    log->pending = kVictimNames;
    {
      OldMapper victim({path_, log_path, absl::StrCat(random() % 10000)});
      const uint64_t operations = 50 + random() % 200;
      while (log->operations.load() < operations) {
      }
      for (volatile unsigned spin = static_cast<unsigned>(random() % 3000); spin > 0;)
        spin = spin - 1;
    }
    auto registry = Open();
    ASSERT_NE(registry, nullptr);
    Registration found;
    for (size_t n = 0; n < kVictimNames; ++n) {
      const std::string name = VictimName(n);
      const bool is_found = registry->Lookup(name, found);
      ASSERT_TRUE(!is_found || IsWhole(found, name)) << name;
      if (log->pending.load() == n && !log->keeps.load()) continue;
      ASSERT_EQ(is_found, log->id[n].load() != 0) << name;
      if (!is_found) {
        ASSERT_GT(registry->Register({.name = name}).creation, log->creation_last[n].load());
        continue;
      }
      ASSERT_EQ(found.id, log->id[n].load());
      ASSERT_EQ(found.slot, log->slot[n].load());
      ASSERT_EQ(found.creation, log->creation[n].load());
    }
    munmap(memory, sizeof(VictimLog));
  }
}

TEST_F(MigrationTest, Inv7AMigrationMayBeKilledAtEachStep) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  old->Kill();
  const std::string content = ReadFile(path_);
  int crashes = 0;
  for (int step = 1; step <= kStepsMax; ++step) {
    unlink(path_.c_str());
    WriteFile(path_, content);
    if (!OpenAndCrash(step)) continue;
    ++crashes;
    const std::string left = ReadFile(path_);
    if (step <= 7) {
      EXPECT_EQ(left, content) << step;
    } else {
      EXPECT_EQ(VersionOfFile(left), kNewVersion) << step;
    }
    EXPECT_EQ(DumpOf(path_), before) << step;
    // A reader that has had the old one open all the time.
    std::string error;
    const auto reader = Reader::Open(step <= 7 ? path_ : PreviousPath(path_), error);
    ASSERT_NE(reader, nullptr) << error;
    const auto registry = Open();
    ASSERT_NE(registry, nullptr);
    registry->FinishMigration();
    EXPECT_EQ(DumpOf(path_), before) << step;
    EXPECT_TRUE(reader->view().superseded()) << step;
    EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"})) << step;
  }
  EXPECT_EQ(crashes, 9);
}

TEST_F(MigrationTest, Inv7TheOldMapperTakesItBack) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  const ino_t inode = Inode(path_);
  const std::string content = ReadFile(path_);
  EXPECT_EQ(old->Tell("restore"), "OK") << "nothing to do";
  EXPECT_EQ(ReadFile(path_), content);

  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  EXPECT_EQ(old->Tell("superseded"), "yes");
  EXPECT_NE(Inode(path_), inode);
  EXPECT_EQ(Inode(absl::StrCat(path_, ".previous")), inode);
  fresh->Register({.name = "lost"});
  // Of the new one's readers, one that stays.
  std::string error;
  const auto reader = Reader::Open(path_, error);

  EXPECT_EQ(old->Tell("restore"), "OK");
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_EQ(ReadFile(path_), content);
  EXPECT_EQ(old->Tell("superseded"), "no");
  EXPECT_TRUE(fresh->superseded());
  EXPECT_TRUE(reader->view().superseded());
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  fresh.reset();
  EXPECT_EQ(old->Dump(), before);
  EXPECT_NE(old->Tell("register hare"), "0");

  // The next upgrade goes well.
  fresh = Open();
  Registration found;
  EXPECT_TRUE(fresh->Lookup("hare", found));
  EXPECT_EQ(Inode(absl::StrCat(path_, ".previous")), inode);
  old->Kill();
  fresh->FinishMigration();
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  EXPECT_FALSE(fresh->superseded());
  EXPECT_TRUE(fresh->RollBackSuccessorsMigration().ok()) << "nothing to do";
}

// Both mappers of an upgrade have died before the new one served, and the next is of the old kind.
TEST_F(MigrationTest, Inv7TheNextOldMapperTakesItBack) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::vector<std::string> before = old->Dump();
  const ino_t inode = Inode(path_);
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  old->Kill();
  // While the new one lives it may have acknowledged something.
  EXPECT_NE(OldMapper({path_}).ReadLine().find("newer version"), std::string::npos);
  fresh.reset();
  old = StartOld();
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_EQ(old->Dump(), before);
  EXPECT_EQ(old->Tell("superseded"), "no");
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  // What was made final stays.
  old->Kill();
  fresh = Open();
  fresh->FinishMigration();
  fresh.reset();
  EXPECT_NE(OldMapper({path_}).ReadLine().find("newer version"), std::string::npos);
  EXPECT_EQ(DumpOf(path_), before);
}

TEST_F(MigrationTest, Inv7ANewMapperThatDoesNotServeGivesItBack) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const ino_t inode = Inode(path_);
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  ASSERT_EQ(old->Tell("superseded"), "yes");
  EXPECT_TRUE(fresh->RollBackOwnMigration().ok());
  EXPECT_EQ(old->Tell("superseded"), "no");
  EXPECT_TRUE(fresh->superseded());
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_TRUE(fresh->RollBackOwnMigration().ok()) << "nothing to do";
  EXPECT_EQ(old->Tell("restore"), "OK") << "nothing to do";
  EXPECT_EQ(Inode(path_), inode);
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
}

TEST_F(MigrationTest, Inv7AnUpgradeKilledAtEachStepIsTakenBack) {
  for (int step = 1; step < kStepsMax; ++step) {
    auto old = StartOld();
    ASSERT_EQ(old->Tell(step == 1 ? "fill" : absl::StrCat("register step", step)).empty(), false);
    const std::string content = ReadFile(path_);
    ASSERT_TRUE(OpenAndCrash(step));
    EXPECT_EQ(old->Tell("restore"), "OK") << step;
    EXPECT_EQ(ReadFile(path_), content) << step;
    EXPECT_EQ(old->Tell("superseded"), "no") << step;
    old->Kill();
    old = StartOld();
    EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"})) << step;
  }
}

TEST_F(MigrationTest, Inv7TakingBackMayBeKilledAtEachStep) {
  int crashes = 0;
  for (int step = 1; step < kStepsMax; ++step) {
    unlink(path_.c_str());
    auto old = StartOld();
    ASSERT_EQ(old->Tell("fill"), "ok");
    const std::vector<std::string> before = old->Dump();
    auto fresh = Open();
    ASSERT_NE(fresh, nullptr);
    ASSERT_EQ(old->Tell(absl::StrCat("crash ", step)), "ok");
    if (old->Tell("restore") == "OK") continue;
    ++crashes;
    fresh.reset();
    EXPECT_EQ(VersionOfFile(ReadFile(path_)), step <= 2 ? kNewVersion : kOldVersion);
    EXPECT_EQ(DumpOf(path_), before) << step;
    // Whoever is next comes through.
    fresh = Open();
    ASSERT_NE(fresh, nullptr);
    fresh->FinishMigration();
    EXPECT_EQ(DumpOf(path_), before) << step;
    EXPECT_FALSE(fresh->superseded());
    EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"})) << step;
  }
  EXPECT_EQ(crashes, 5);
}

TEST_F(MigrationTest, Inv7TheOldCodeLeavesANewerLayoutAlone) {
  StartOld()->Tell("fill");
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  fresh->FinishMigration();
  fresh.reset();
  const std::string content = ReadFile(path_);
  OldMapper old({path_});
  const std::string refusal = old.ReadLine();
  EXPECT_NE(refusal.find("FAILED_PRECONDITION"), std::string::npos) << refusal;
  EXPECT_NE(refusal.find("newer version"), std::string::npos) << refusal;
  EXPECT_EQ(ReadFile(path_), content);
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
}

TEST_F(MigrationTest, NeedsMigrationTellsWhatOpenWould) {
  EXPECT_FALSE(NeedsMigration());
  EXPECT_EQ(Names(), (std::set<std::string>{}));
  ASSERT_NE(Open(), nullptr);
  EXPECT_FALSE(NeedsMigration());
  std::string content = ReadFile(path_);
  for (const auto& [at, value] :
       std::initializer_list<std::pair<size_t, char>>{{0, 'X'}, {8, 9}, {8, 0}, {24, 1}, {8, 2}}) {
    std::string damaged = content;
    damaged[at] = value;
    WriteFile(path_, damaged);
    const auto needs = Registry::NeedsMigration(path_);
    EXPECT_EQ(needs.status().code(), absl::StatusCode::kFailedPrecondition) << at;
    EXPECT_EQ(needs.status(), Registry::Open({.path = path_}).status());
    EXPECT_EQ(ReadFile(path_), damaged);
  }
}

TEST_F(MigrationTest, WithoutRoomTheOldFileStays) {
  StartOld()->Tell("fill");
  const std::string content = ReadFile(path_);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    const auto registry = Registry::Open({.path = path_});
    _exit(registry.ok() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ReadFile(path_), content);
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
}

// In a file system of its own, with a little more room each time, until there is enough.
TEST_F(MigrationTest, WithoutMemoryTheOldFileStays) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  StartOld()->Tell("fill");
  const std::string content = ReadFile(path_);
  unlink(absl::StrCat(path_, ".lock").c_str());
  constexpr int kNoMounts = 77;
  constexpr int kFailuresMin = 3;  // the start of the file, the records, the long names
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr)) {
      _exit(kNoMounts);
    }
    const auto check = [&](const std::string& options, bool& opened) {
      if (mount("tmpfs", directory_, "tmpfs", 0, options.c_str()) != 0) _exit(kNoMounts);
      WriteFile(path_, content);
      const ino_t inode = Inode(path_);
      const auto registry = Registry::Open({.path = path_});
      opened = registry.ok();
      if (opened) return true;
      const bool is_kept = Inode(path_) == inode && !Names().contains("registry.migrating") &&
                           !Names().contains("registry.previous");
      umount(directory_);
      return is_kept && absl::IsResourceExhausted(registry.status());
    };
    bool opened = false;
    // Names for the directory and the file; for the lock, too; and for the new file.
    for (const int names : {2, 3}) {
      if (!check(absl::StrCat("nr_inodes=", names), opened) || opened) _exit(1);
    }
    const size_t needed_kib = content.size() / 1024;
    constexpr size_t kStepKib = 32;
    int failures = 0;
    for (size_t more_kib = 0; !opened; more_kib += kStepKib) {
      if (!check(absl::StrCat("size=", needed_kib + more_kib, "k"), opened)) _exit(2);
      failures += opened ? 0 : 1;
    }
    _exit(failures >= kFailuresMin ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNoMounts) GTEST_SKIP() << "no mounts here";
  EXPECT_EQ(status, 0);
}

// What is in the way of a step, as nobody else should put it there.
std::string g_in_the_way;

TEST_F(MigrationTest, StepsThatFail) {
  auto old = StartOld();
  ASSERT_EQ(old->Tell("fill"), "ok");
  const std::string content = ReadFile(path_);
  // The old file cannot get its second name.
  g_in_the_way = path_ + ".previous";
  SetMigrationHookForTests([](int step) {
    if (step == 6) mkdir(g_in_the_way.c_str(), 0755);
  });
  const auto unnamed = Registry::Open({.path = path_});
  EXPECT_NE(std::string(unnamed.status().message()).find("cannot be named"), std::string::npos)
      << unnamed.status();
  rmdir(g_in_the_way.c_str());
  EXPECT_TRUE(ReadFile(path_) == content);
  // The new file is not there any more.
  g_in_the_way = path_ + ".migrating";
  SetMigrationHookForTests([](int step) {
    if (step == 7) unlink(g_in_the_way.c_str());
  });
  const auto gone = Registry::Open({.path = path_});
  EXPECT_NE(std::string(gone.status().message()).find("cannot take its place"), std::string::npos)
      << gone.status();
  EXPECT_TRUE(ReadFile(path_) == content);
  EXPECT_EQ(Names(), (std::set<std::string>{"registry", "registry.lock"}));
  SetMigrationHookForTests(nullptr);
  // Taken back while there is another file of the name that the newer one should get.
  auto fresh = Open();
  ASSERT_NE(fresh, nullptr);
  SetMigrationHookForTests([](int step) {
    if (step == 1) WriteFile(g_in_the_way, "");
  });
  EXPECT_TRUE(fresh->RollBackOwnMigration().ok());
  SetMigrationHookForTests(nullptr);
  EXPECT_EQ(VersionOfFile(ReadFile(path_)), kOldVersion);
  EXPECT_EQ(old->Tell("superseded"), "no");
}

TEST_F(MigrationTest, AfterARebootNamesAreRemembered) {
  StartOld()->Tell("fill");
  std::string content = ReadFile(path_);
  content[layout_v2::kDescription.header.boot_id] ^= 1;
  WriteFile(path_, content);
  auto registry = Open();
  int remembered = 0;
  registry->ForEach([&](const Registration& node) {
    EXPECT_EQ(node.state, RegistrationState::kRemembered);
    ++remembered;
  });
  EXPECT_EQ(remembered, 300);
}

TEST_F(MigrationTest, Inv6DamagedOldSegmentsHarmNobody) {
  auto old = StartOld();
  old->Tell("fill");
  old->Tell("half");
  old->Kill();
  const std::string intact = ReadFile(path_);
  const layout::Geometry geometry = layout_v2::GeometryFor(1000);
  std::mt19937 random(5);
  const int rounds = Scaled(300);
  for (int i = 0; i < rounds; ++i) {
    std::string damaged = intact;
    const uint64_t begin = i % 4 == 0   ? 0
                           : i % 4 == 1 ? geometry.buckets_offset
                                        : geometry.records_offset;
    const uint64_t size = i % 4 == 0   ? layout_v2::kHeaderSize
                          : i % 4 == 1 ? geometry.buckets * 8
                                       : 310 * layout_v2::kRecordSize;
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
      auto registry = Registry::Open({.path = path_});
      if (!registry.ok()) _exit(0);
      Registration found;
      for (int n = 0; n < 100; ++n) {
        const std::string name = absl::StrCat("node", n, std::string(static_cast<size_t>(n), 'n'));
        (*registry)->Lookup(name, found);
        const RegisterResult node = (*registry)->Register({.name = name});
        (*registry)->Unregister(node.slot, node.id);
      }
      (*registry)->ForEach([](const Registration&) {});
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0) << "round " << i;
  }
}

}  // namespace
}  // namespace evermap
