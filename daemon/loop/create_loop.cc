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
  switch (kind) {
    case LoopKind::kIoUring:
      return CreateUringLoop(options);
    case LoopKind::kEpoll:
      return CreateEpollLoop(options);
  }
  return absl::InvalidArgumentError("no kind of loop");
}

absl::StatusOr<ChosenLoops> ChooseLoops(std::optional<LoopKind> asked_for, uint32_t count,
                                        const Loop::Options& options) {
  constexpr LoopKind kLast = kLoopKinds.back().kind;
  std::string why = asked_for.has_value() ? ", as asked for" : "";
  for (const LoopKindRow& row : kLoopKinds) {
    if (asked_for.value_or(row.kind) != row.kind) continue;
    auto loops = CreateLoops(row.kind, count, options);
    if (loops.ok()) return ChosenLoops{*std::move(loops), absl::StrCat(std::string(row.word), why)};
    if (row.kind == kLast) return loops.status();
    if (asked_for.has_value()) {
      return absl::FailedPreconditionError(absl::StrCat("-loop ", std::string(row.word), ": ",
                                                        loops.status().message(),
                                                        "; allow it, or use -loop auto"));
    }
    absl::StrAppend(&why, why.empty() ? ", because " : "; ", loops.status().message());
  }
  return absl::InvalidArgumentError("no kind of loop");
}

}  // namespace evermap
