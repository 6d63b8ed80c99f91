// The fixture of the registry's tests: a directory of its own for each test, and a registry in it.
#ifndef EVERMAP_REGISTRY_REGISTRY_TESTING_H_
#define EVERMAP_REGISTRY_REGISTRY_TESTING_H_

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/registry.h"
#include "registry/victim_testing.h"

namespace evermap {

// Rounds to do of `rounds`: EVERMAP_TEST_SCALE percent.
inline int Scaled(int rounds) {
  const char* percent = getenv("EVERMAP_TEST_SCALE");
  return percent == nullptr ? rounds : std::max(1, rounds * atoi(percent) / 100);
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  ASSERT_FALSE(file.fail()) << path << " cannot be written: " << strerror(errno);
  ASSERT_EQ(chmod(path.c_str(), 0644), 0) << strerror(errno);
}
// Passes if the file has this content; says where it differs, since registries are too long to print.
inline testing::AssertionResult FileHas(const std::string& path, const std::string& expected) {
  const std::string content = ReadFile(path);
  if (content == expected) return testing::AssertionSuccess();
  const auto at = std::mismatch(content.begin(), content.end(), expected.begin(), expected.end());
  return testing::AssertionFailure()
         << path << " has " << content.size() << " bytes instead of " << expected.size()
         << ", and the first that differs is at " << at.first - content.begin();
}

// Memory shared with child processes.
template <typename T>
T* SharedWithChildren() {
  void* memory =
      mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_NE(memory, MAP_FAILED);
  return new (memory) T();
}

// Uses whatever is at `path` in every way.
inline void UseEverything(const std::string& path) {
  std::string error;
  const std::unique_ptr<Reader> reader = Reader::Open(path, error);
  Registration found;
  if (reader != nullptr) {
    for (int i = 0; i < 40; ++i) reader->view().Lookup(absl::StrCat("node", i), found);
    for (uint32_t slot = 0; slot < 70; ++slot) reader->view().ReadSlot(slot, found);
    reader->view().CountLive();
    reader->view().mapper_status();
    reader->view().upgrade_status();
  }
  auto registry = Registry::Open({.path = path});
  if (!registry.ok()) return;
  for (int i = 0; i < 40; ++i) {
    const RegisterResult node = (*registry)->Register({.name = absl::StrCat("node", i * 2)});
    if (node.outcome == RegisterResult::Outcome::kTaken) (*registry)->Orphan(node.slot, node.id);
    (*registry)->Amend(node.slot, node.id, {.listener_cookie = 1});
    (*registry)->Adopt(node.slot, node.id, 1);
    (*registry)->Unregister(node.slot, node.id);
  }
  for (const Which which : {Which::kRegistered, Which::kAll}) {
    (*registry)->ForEach(which, [](const Registration&) {});
  }
  (*registry)->live_count();
}

class RegistryDirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(directory_), nullptr);
    path_ = absl::StrCat(directory_, "/registry");
  }
  void TearDown() override {
    for (const std::string& name : Names()) unlink(absl::StrCat(directory_, "/", name).c_str());
    EXPECT_EQ(rmdir(directory_), 0);
  }

  // Names of the files in the directory.
  std::set<std::string> Names() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      names.insert(entry.path().filename());
    }
    return names;
  }
  std::unique_ptr<Registry> Open(uint32_t capacity = 4096) {
    auto registry = Registry::Open({.path = path_, .capacity = capacity});
    EXPECT_TRUE(registry.ok()) << registry.status();
    return registry.ok() ? *std::move(registry) : nullptr;
  }
  // Opens a registry that is refused; says why.
  std::string Refusal() {
    const auto registry = Registry::Open({.path = path_});
    EXPECT_EQ(registry.status().code(), absl::StatusCode::kFailedPrecondition);
    return std::string(registry.status().message());
  }

  char directory_[32] = "/dev/shm/registry-test-XXXXXX";
  std::string path_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_REGISTRY_TESTING_H_
