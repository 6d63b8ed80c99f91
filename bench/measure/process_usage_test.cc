#include "bench/measure/process_usage.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <thread>
#include <vector>

namespace evermap::bench {
namespace {

void BurnCpu(double seconds) {
  const clock_t end = clock() + static_cast<clock_t>(seconds * CLOCKS_PER_SEC);
  while (clock() < end) {
  }
}

TEST(ProcessUsage, SaysWhatThisProcessUses) {
  BurnCpu(0.05);
  const auto usage = ReadProcessTree(getpid());
  ASSERT_TRUE(usage.ok()) << usage.status();
  EXPECT_EQ(usage->processes, 1u);
  EXPECT_GE(usage->threads, 1u);
  EXPECT_GE(usage->cpu_ns, 40'000'000u);
  EXPECT_GE(usage->memory_bytes, 100'000u);
  EXPECT_GE(usage->descriptors, 3u);

  BurnCpu(0.05);
  const auto later = ReadProcessTree(getpid());
  ASSERT_TRUE(later.ok());
  EXPECT_GE(later->cpu_ns - usage->cpu_ns, 40'000'000u);
}

TEST(ProcessUsage, CountsDescendants) {
  // A child with a child of its own; both end when the pipe does.
  std::array<int, 2> ends;
  std::array<int, 2> ready;
  ASSERT_EQ(pipe(ends.data()), 0);
  ASSERT_EQ(pipe(ready.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    close(ends[1]);
    const pid_t grandchild = fork();
    char byte = 'x';
    [[maybe_unused]] ssize_t done = write(ready[1], &byte, 1);
    done = read(ends[0], &byte, 1);
    if (grandchild > 0) waitpid(grandchild, nullptr, 0);
    _exit(0);
  }
  std::array<char, 2> bytes;
  for (char& byte : bytes) ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const std::vector<pid_t> tree = ProcessTree(getpid());
  EXPECT_EQ(tree.size(), 3u);
  EXPECT_EQ(tree[0], getpid());
  EXPECT_EQ(tree[1], child);
  const auto usage = ReadProcessTree(getpid());
  ASSERT_TRUE(usage.ok());
  EXPECT_EQ(usage->processes, 3u);
  for (const int fd : {ends[0], ends[1], ready[0], ready[1]}) close(fd);
  waitpid(child, nullptr, 0);
}

// Others start and end while /proc is looked through.
TEST(ProcessUsage, TakesProcessesThatEndForGone) {
  std::atomic<bool> stop = false;
  std::thread others([&] {
    while (!stop) {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      waitpid(child, nullptr, 0);
    }
  });
  for (int i = 0; i < 200; ++i) {
    const auto usage = ReadProcessTree(getpid());
    ASSERT_TRUE(usage.ok()) << usage.status();
    ASSERT_GE(usage->processes, 1u);
  }
  stop = true;
  others.join();
}

TEST(ProcessUsage, SaysThatThereIsNoSuchProcess) {
  constexpr pid_t kNobody = 0x3fffffff;
  EXPECT_EQ(ReadProcessTree(kNobody).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace evermap::bench
