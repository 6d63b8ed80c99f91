#include "daemon/systemd/scope.h"

#include <unistd.h>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/host/steady_time.h"

namespace evermap {
namespace {

// Between two looks whether the move is done, which takes some milliseconds.
constexpr absl::Duration kPollPause = absl::Milliseconds(1);

}  // namespace

absl::Status EnterScope(SystemdManager& manager, const std::string& scope,
                        std::string_view description, absl::Duration timeout) {
  absl::Status started = manager.StartScope(scope, description, getpid());
  if (!started.ok()) return started;
  const absl::StatusOr<std::string> path = manager.LoadUnit(scope);
  if (!path.ok()) return path.status();
  const absl::Time deadline = SteadyNow() + timeout;
  // systemd moves the processes, and then says so. (Which hierarchy of control groups it goes by is
  // its own affair.)
  while (true) {
    const absl::StatusOr<std::string> state = manager.Text(*path, kUnitInterface, "ActiveState");
    if (!state.ok()) return state.status();
    if (*state == "active") return absl::OkStatus();
    if (SteadyNow() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("it has not got to ", scope));
    }
    absl::SleepFor(kPollPause);
  }
}

}  // namespace evermap
