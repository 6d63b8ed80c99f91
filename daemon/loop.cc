#include "daemon/loop.h"

#include "daemon/loop_implementations.h"

namespace evermap {

absl::StatusOr<std::unique_ptr<Loop>> Loop::Create(LoopKind kind, const Options& options) {
  return kind == LoopKind::kIoUring ? CreateUringLoop(options) : CreateEpollLoop(options);
}

std::string_view LoopKindName(LoopKind kind) {
  return kind == LoopKind::kIoUring ? "io_uring" : "epoll";
}

}  // namespace evermap
