#include "tools/epmdctl/restart_alone_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/host/steady_time.h"
#include "daemon/systemd/manager.h"
#include "daemon/systemd/scope.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// How long each question to systemd, and the move out of the unit, may take.
constexpr absl::Duration kManagerTimeout = absl::Seconds(2);
// Longer than the unit takes to end (TimeoutStopSec=).
constexpr absl::Duration kEndTimeout = absl::Minutes(1);
// One that was not started so long ago may end by its own fault each time: systemd restarts it after
// a pause then.
constexpr absl::Duration kSettled = absl::Milliseconds(500);
constexpr absl::Duration kPollPause = absl::Milliseconds(1);

// Whether a service of this SubState has still to come to its automatic restart.
bool IsEnding(std::string_view state) {
  return state.starts_with("stop") || state.starts_with("final") ||
         state == "dead-before-auto-restart";
}

// Whether systemd has something else to do with the unit than to end it and to restart it later. A
// reload (an upgrade) ends together with the mapper.
absl::StatusOr<bool> HasOtherJob(SystemdManager& manager, const std::string& path) {
  const absl::StatusOr<std::string> job = manager.Job(path);
  if (!job.ok()) return job.status();
  if (job->empty()) return false;
  const absl::StatusOr<std::string> type = manager.Text(*job, kJobInterface, "JobType");
  // A job that is done meanwhile can no longer be asked.
  return type.ok() && *type != "reload";
}

// Whether the unit was started some time ago.
absl::StatusOr<bool> HasSettled(SystemdManager& manager, const std::string& path) {
  // In us of CLOCK_MONOTONIC. It stays what it was when the unit leaves that state.
  const absl::StatusOr<uint64_t> started_us =
      manager.Number(path, kUnitInterface, "InactiveExitTimestampMonotonic");
  if (!started_us.ok()) return started_us.status();
  return SteadyNow() - absl::FromUnixMicros(static_cast<int64_t>(*started_us)) >= kSettled;
}

absl::Status RestartWhenEnded(SystemdManager& manager, const std::string& unit,
                              const std::string& path) {
  const absl::Time deadline = SteadyNow() + kEndTimeout;
  while (true) {
    const absl::StatusOr<std::string> state = manager.Text(path, kUnitInterface, "SubState");
    if (!state.ok()) return state.status();
    if (*state == "auto-restart") return manager.RestartUnitAlone(unit);
    // Somebody has stopped or started it meanwhile.
    if (!IsEnding(*state)) return absl::OkStatus();
    if (SteadyNow() > deadline) return absl::DeadlineExceededError("the unit does not end");
    absl::SleepFor(kPollPause);
  }
}

int Tell(const std::string& unit, const absl::Status& status) {
  if (status.ok()) return 0;
  PrintError(absl::StrCat(Printable(unit), " is not restarted by itself, but by systemd: ",
                          Printable(std::string(status.message()))));
  return kExitFailed;
}

// What the process does that leaves the unit. Closes `leaving` when it has.
absl::Status Leave(SystemdManager& manager, const std::string& unit, const std::string& path,
                   OwnedFd leaving) {
  absl::Status left = EnterScope(manager, absl::StrCat("epmdctl-", getpid(), ".scope"),
                                 "Restart of the Erlang Port Mapper Daemon", kManagerTimeout);
  if (!left.ok()) return left;
  leaving = OwnedFd();
  return RestartWhenEnded(manager, unit, path);
}

}  // namespace

int RestartAlone(const std::string& unit) {
  const char* const variable = getenv("EXIT_CODE");
  const std::string_view end = variable == nullptr ? "" : variable;
  if (end != "killed" && end != "dumped") return 0;
  absl::StatusOr<SystemdManager> manager =
      SystemdManager::Connect(/*of_user=*/false, kManagerTimeout);
  if (!manager.ok()) return Tell(unit, manager.status());
  const absl::StatusOr<std::string> path = manager->LoadUnit(unit);
  if (!path.ok()) return Tell(unit, path.status());
  const absl::StatusOr<bool> has_other_job = HasOtherJob(*manager, *path);
  if (!has_other_job.ok()) return Tell(unit, has_other_job.status());
  if (*has_other_job) return 0;
  const absl::StatusOr<bool> has_settled = HasSettled(*manager, *path);
  if (!has_settled.ok()) return Tell(unit, has_settled.status());
  if (!*has_settled) return 0;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Tell(unit, absl::ErrnoToStatus(errno, "pipe2"));
  const OwnedFd left(ends[0]);
  OwnedFd leaving(ends[1]);
  const pid_t child = fork();
  if (child < 0) return Tell(unit, absl::ErrnoToStatus(errno, "fork"));
  if (child == 0) return Tell(unit, Leave(*manager, unit, *path, std::move(leaving)));
  leaving = OwnedFd();
  // Nothing is written: this waits for the end, of the move or of the child.
  char nothing;
  while (read(left.get(), &nothing, 1) < 0 && errno == EINTR) {
  }
  return 0;
}

}  // namespace evermap
