// Which kind of loop the workers run on: io_uring, or epoll where io_uring is not to be had.
//
//   auto chosen = ChooseLoops(std::nullopt, workers, {.connections_max = 1000});
//   Log(Severity::kNotice, "serves through %s", chosen->reason);
//
// The kinds and their words are the table of loop_kind.h; here alone it is known how a loop of each
// kind is made. A further kind is a row of that table, a file, and a case of CreateLoop(), without
// which it does not compile. Who serves on a loop does not know its kind (loop.h).
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
#include "daemon/loop/loop_kind.h"

namespace evermap {

// kUnavailable, with the likely cause and the way out, when the kernel refuses it.
absl::StatusOr<std::unique_ptr<Loop>> CreateLoop(LoopKind kind, const Loop::Options& options);

struct ChosenLoops {
  std::vector<std::unique_ptr<Loop>> loops;  // all of one kind
  std::string reason;  // the kind, and after a comma why, as far as there is something to say
};
// Makes `count` loops of the kind that was asked for; without `asked_for` of the first kind of the
// table that the kernel does not refuse. kFailedPrecondition: a kind that not every kernel has was
// asked for and is refused. Other errors are those of CreateLoop() for the last kind.
absl::StatusOr<ChosenLoops> ChooseLoops(std::optional<LoopKind> asked_for, uint32_t count,
                                        const Loop::Options& options);

// The kinds; each is defined in the file that bears its name.
absl::StatusOr<std::unique_ptr<Loop>> CreateUringLoop(const Loop::Options& options);
absl::StatusOr<std::unique_ptr<Loop>> CreateEpollLoop(const Loop::Options& options);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_LOOP_CREATE_LOOP_H_
