// The fixture of the tests of migration (INV-7) from the layout of today, which registry_writer writes,
// to the throw-away one of tests/next_layout, which these tests are compiled with: two programs that
// differ in the header, the records and where texts and counters lie.
#ifndef EVERMAP_REGISTRY_MIGRATION_TESTING_H_
#define EVERMAP_REGISTRY_MIGRATION_TESTING_H_

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
#include "registry/counters.h"
#include "registry/layout.h"
#include "registry/layout_v3.h"
#include "registry/reader.h"
#include "registry/registry.h"
#include "registry/registry_testing.h"

namespace evermap {

static_assert(layout::kLayoutVersion == 4);
inline constexpr uint32_t kOldVersion = 3;
inline constexpr uint32_t kNewVersion = 4;

// Beyond the last step of each.
inline constexpr int kStepsMax = 10;

inline std::string WriterProgram() {
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

inline uint32_t VersionOfFile(const std::string& content) {
  return content.size() < 12 ? 0 : static_cast<unsigned char>(content[8]);
}
// The content but for the word that may change.
inline std::string Unmarked(std::string content) {
  constexpr size_t kAt = layout::kSupersededAt;
  if (content.size() >= kAt + 8) content.replace(kAt, 8, 8, '\0');
  return content;
}

inline std::vector<std::string> DumpOf(const RegistryView& view) {
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
inline std::vector<std::string> DumpOf(const std::string& path) {
  std::string error;
  const auto reader = Reader::Open(path, error);
  EXPECT_NE(reader, nullptr) << error;
  return reader == nullptr ? std::vector<std::string>{} : DumpOf(reader->view());
}

class MigrationTest : public RegistryDirectoryTest {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    RegistryDirectoryTest::SetUp();
  }
  std::unique_ptr<OldMapper> StartOld() {
    auto old = std::make_unique<OldMapper>(std::vector<std::string>{path_});
    EXPECT_EQ(old->ReadLine(), "OK");
    return old;
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
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_MIGRATION_TESTING_H_
