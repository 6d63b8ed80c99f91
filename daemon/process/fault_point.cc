#include "daemon/process/fault_point.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "absl/strings/str_split.h"

namespace evermap {

void FaultPoint(const char* point) {
  const char* chosen = getenv("EPMD_FAULTS");
  if (chosen == nullptr) return;
  for (const absl::string_view fault : absl::StrSplit(chosen, ',')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(fault, absl::MaxSplits('=', 1));
    if (parts.first != point) continue;
    if (parts.second == "kill") raise(SIGKILL);
    if (parts.second == "segv") raise(SIGSEGV);
    if (parts.second == "stop") raise(SIGSTOP);
    if (parts.second == "exit") _exit(1);
  }
}

}  // namespace evermap
