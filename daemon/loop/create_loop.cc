#include "daemon/loop/create_loop.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace evermap {
namespace {

absl::StatusOr<std::vector<std::unique_ptr<Loop>>> CreateLoops(LoopKind kind, uint32_t count,
                                                               const Loop::Options& options) {
  std::vector<std::unique_ptr<Loop>> loops;
  for (uint32_t i = 0; i < count; ++i) {
    absl::StatusOr<std::unique_ptr<Loop>> loop = CreateLoop(kind, options);
    if (!loop.ok()) return loop.status();
    loops.push_back(*std::move(loop));
  }
  return loops;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> CreateLoop(LoopKind kind, const Loop::Options& options) {
  return kind == LoopKind::kIoUring ? CreateUringLoop(options) : CreateEpollLoop(options);
}

absl::StatusOr<ChosenLoops> ChooseLoops(std::optional<LoopKind> asked_for, uint32_t count,
                                        const Loop::Options& options) {
  std::string reason = "epoll, as asked for";
  if (asked_for != LoopKind::kEpoll) {
    auto loops = CreateLoops(LoopKind::kIoUring, count, options);
    if (loops.ok()) {
      return ChosenLoops{*std::move(loops),
                         asked_for.has_value() ? "io_uring, as asked for" : "io_uring"};
    }
    if (asked_for.has_value()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "-loop io_uring: ", loops.status().message(), "; allow it, or use -loop auto"));
    }
    reason = absl::StrCat("epoll, because ", loops.status().message());
  }
  auto loops = CreateLoops(LoopKind::kEpoll, count, options);
  if (!loops.ok()) return loops.status();
  return ChosenLoops{*std::move(loops), std::move(reason)};
}

}  // namespace evermap
