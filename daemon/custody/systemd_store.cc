#include "daemon/custody/systemd_store.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "daemon/custody/notify_socket.h"
#include "daemon/custody/words.h"
#include "daemon/host/log.h"

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

bool SystemdStore::AwaitHeld() { return AwaitNotified(own_link(), kTellTimeout); }

}  // namespace evermap
