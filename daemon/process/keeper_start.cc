#include "daemon/process/keeper_start.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/host/own_program.h"
#include "daemon/process/launch.h"

namespace evermap {

absl::StatusOr<OwnedFd> StartKeeper(const std::vector<std::string>& arguments,
                                    absl::Span<const int> listeners) {
  auto ends = NotifyPair();
  if (!ends.ok()) return ends.status();
  const Launch launch{.program = kOwnProgramLink,
                      .otherwise = OwnProgram(),
                      .arguments = arguments,
                      .environment = {absl::StrCat(variables::kMapperPid, "=", getpid()),
                                      absl::StrCat(variables::kIsStray, "=1"),
                                      absl::StrCat(kBinaryVariable, "=", OwnProgram())},
                      .descriptors = {listeners.begin(), listeners.end()},
                      .links = {{variables::kMapperLink, ends->second.get()}}};
  const absl::StatusOr<pid_t> pid = Start(launch);
  if (!pid.ok()) return pid.status();
  return std::move(ends->first);
}

}  // namespace evermap
