#include "daemon/loop/create_loop.h"

#include <malloc.h>

#include <cstddef>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

constexpr Loop::Options kSmall = {.connections_max = 8, .shares_listeners = true};

TEST(ChooseLoopsTest, EpollWhenItIsAskedFor) {
  const absl::StatusOr<ChosenLoops> chosen = ChooseLoops(LoopKind::kEpoll, 3, kSmall);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->loops.size(), 3u);
  EXPECT_EQ(chosen->reason, "epoll, as asked for");
}

// Whether this host has io_uring is not for the test to say, but what follows from it is.
TEST(ChooseLoopsTest, WithoutAWishWhatThereIs) {
  const absl::StatusOr<ChosenLoops> asked_for = ChooseLoops(LoopKind::kIoUring, 2, kSmall);
  const absl::StatusOr<ChosenLoops> chosen = ChooseLoops(std::nullopt, 2, kSmall);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->loops.size(), 2u);
  if (asked_for.ok()) {
    EXPECT_EQ(asked_for->reason, "io_uring, as asked for");
    EXPECT_EQ(chosen->reason, "io_uring");
  } else {
    EXPECT_TRUE(absl::IsFailedPrecondition(asked_for.status()));
    EXPECT_TRUE(absl::StartsWith(asked_for.status().message(), "-loop io_uring: "));
    EXPECT_TRUE(absl::StartsWith(chosen->reason, "epoll, because "));
  }
}

// A container may have a limit of a million descriptors, and a host a hundred cores.
TEST(ChooseLoopsTest, MemoryDoesNotGoByTheLimitOfDescriptors) {
  constexpr size_t kBytesMax = 64 << 10;
  const Loop::Options large = {.connections_max = 1 << 20, .shares_listeners = true};
  for (const LoopKind kind : {LoopKind::kIoUring, LoopKind::kEpoll}) {
    const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    const absl::StatusOr<ChosenLoops> chosen = ChooseLoops(kind, 1, large);
    EXPECT_LT(mallinfo2().uordblks + mallinfo2().hblkhd - before, kBytesMax);
  }
}

}  // namespace
}  // namespace evermap
