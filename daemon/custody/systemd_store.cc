#include "daemon/custody/systemd_store.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/host/log.h"
#include "registry/base/owned_fd.h"

namespace evermap {

void SystemdStore::WarnOfLoss() const {
  Log(Severity::kWarning,
      "systemd does not take connections (NOTIFY_SOCKET); those that it does not have are lost "
      "if the mapper dies");
}

bool SystemdStore::AnnounceMapper() {
  Tell(absl::StrCat(words::kMainPid, "=", getpid(), "\n", words::kReady));
  return true;
}

bool SystemdStore::Await() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  const OwnedFd own_end(ends[0]);
  OwnedFd its_end(ends[1]);
  const int passed = its_end.get();
  const int error = SendNotificationPatiently(own_link(), words::kBarrier,
                                              absl::MakeConstSpan(&passed, 1), kTellTimeout);
  its_end = OwnedFd();
  pollfd closed = {own_end.get(), 0, 0};
  return error == 0 &&
         poll(&closed, 1, static_cast<int>(absl::ToInt64Milliseconds(kTellTimeout))) > 0;
}

}  // namespace evermap
