#include "daemon/host/close_aside.h"

#include <sys/resource.h>

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "daemon/host/thread.h"

namespace evermap {
namespace {

constexpr int kLowestPriority = 19;  // the highest that nice(2) takes

}  // namespace

void CloseAside(std::vector<OwnedFd> fds) {
  if (fds.empty()) return;
  // std::function is copied, and descriptors are not.
  const auto shared = std::make_shared<std::vector<OwnedFd>>(std::move(fds));
  absl::StatusOr<Thread> thread = Thread::Start("epmd-close", [shared] {
    GiveWay();
    shared->clear();
  });
  if (thread.ok()) thread->Detach();
}

// On Linux the priority is that of one thread.
void GiveWay() { setpriority(PRIO_PROCESS, 0, kLowestPriority); }

}  // namespace evermap
