// The points of the crash tests (registry_crash_test.cc): where a process dies, or another writer comes
// in between, and the guard that no change escapes them.
//
// Thread safety: none; each process of a test has one thread.
#ifndef EVERMAP_REGISTRY_CRASH_HOOKS_TESTING_H_
#define EVERMAP_REGISTRY_CRASH_HOOKS_TESTING_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>

#include "registry/crash_points.h"
#include "registry/migration.h"
#include "registry/registry_testing.h"
#include "registry/segment.h"

namespace evermap {

// Whether this process is guarded: it maps segments without leave to write (registry_crash_test.cc).
inline bool g_is_guarded = false;

inline constexpr uintptr_t kPage = 4096;
// A writer's place that nobody has.
inline constexpr uint32_t kDeadWriter = 200;
// Creations of what is there before a crash lie this far ahead of the clock, so that one that is
// given out again is not hidden by the time that has passed.
inline constexpr uint32_t kCreationLead = 1'000'000;
// A migration copies the 64 counters of each of 256 workers, after some four hundred other changes,
// into a file that nobody looks at before it is complete: of these points every so many are tried.
inline constexpr uint64_t kCountersFirst = 500;
inline constexpr uint64_t kCountersEnd = 256 * 64;
inline constexpr uint64_t kCountersStride = 251;

// Shared with the child that is to die.
struct Progress {
  std::atomic<uint64_t> points;
};
inline Progress* g_progress = nullptr;
inline uint64_t g_dies_at = 0;  // point, from 1; 0: never
inline bool g_is_armed = false;

inline void SetWritable(const void* word, bool is_writable) {
  void* page = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(word) & ~(kPage - 1));
  if (mprotect(page, kPage, is_writable ? PROT_READ | PROT_WRITE : PROT_READ) != 0) abort();
}

inline std::function<void()> g_visit;  // what happens at point g_dies_at instead of a death

inline void ReachPoint() {
  if (!g_is_armed || g_progress->points.fetch_add(1) + 1 != g_dies_at) return;
  if (!g_visit) raise(SIGKILL);
  g_is_armed = false;
  g_visit();
}

inline void Arm(uint64_t dies_at) {
  g_progress->points = 0;
  g_dies_at = dies_at;
  g_is_armed = true;
}

inline void InstallHooks() {
  void* memory =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  g_progress = new (memory) Progress();
  CrashPoints::before = [](const void* word) {
    ReachPoint();
    if (g_is_guarded) SetWritable(word, true);
  };
  CrashPoints::after = [](const void* word) {
    if (g_is_guarded) SetWritable(word, false);
  };
  SetMigrationHookForTests([](int) { ReachPoint(); });
}

// The record that has a block, + 1, as the block says.
inline uint32_t OwnerOfBlock(const Segment& segment, uint64_t block) {
  const auto extent = static_cast<uint32_t>((block - 1) / layout::kExtentBlocks);
  EXPECT_LT(extent, segment.extents().count());
  EXPECT_EQ(segment.extents().use(extent), layout::ExtentUse::kBlocks);
  const auto& head = *reinterpret_cast<const layout::ExtentHead*>(segment.extents().at(extent));
  return layout::LowHalf(head.block_owners[(block - 1) % layout::kExtentBlocks].load());
}

// Points that are passed over between two that are tried, on slow builds.
inline uint64_t Stride() {
  const int percent = Scaled(100);
  return percent >= 100 ? 1 : static_cast<uint64_t>(100 / std::max(percent, 1));
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_CRASH_HOOKS_TESTING_H_
