// Which kind of loop the workers run on: io_uring, or epoll where io_uring is not to be had.
//
//   auto chosen = ChooseLoops(std::nullopt, workers, {.connections_max = 1000});
//   Log(Severity::kNotice, "serves through %s", chosen->reason);
//
// Here alone all kinds of loops are known: a further kind is another value of LoopKind, a file, and
// a line of CreateLoop().
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_LOOP_CREATE_LOOP_H_
#define EVERMAP_DAEMON_LOOP_CREATE_LOOP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/loop/loop.h"

namespace evermap {

enum class LoopKind : uint8_t { kIoUring, kEpoll };

// kUnavailable, with the likely cause and the way out, when the kernel refuses it.
absl::StatusOr<std::unique_ptr<Loop>> CreateLoop(LoopKind kind, const Loop::Options& options);

struct ChosenLoops {
  std::vector<std::unique_ptr<Loop>> loops;  // all of one kind
  std::string reason;  // the kind, and after a comma why, as far as there is something to say
};
// Makes `count` loops of the kind that was asked for; without `asked_for` of io_uring, or of epoll
// when the kernel refuses an io_uring. kFailedPrecondition: io_uring was asked for and is refused.
// Other errors are those of CreateLoop().
absl::StatusOr<ChosenLoops> ChooseLoops(std::optional<LoopKind> asked_for, uint32_t count,
                                        const Loop::Options& options);

// The kinds; each is defined in the file that bears its name.
absl::StatusOr<std::unique_ptr<Loop>> CreateUringLoop(const Loop::Options& options);
absl::StatusOr<std::unique_ptr<Loop>> CreateEpollLoop(const Loop::Options& options);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LOOP_CREATE_LOOP_H_
