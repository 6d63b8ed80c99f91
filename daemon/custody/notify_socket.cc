#include "daemon/custody/notify_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/host/steady_time.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

// A pipe, whose reading end tells when all others have closed the writing end.
struct Pipe {
  OwnedFd reading;
  OwnedFd writing;
};
Pipe MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  return {OwnedFd(ends[0]), OwnedFd(ends[1])};
}

// Gives the writing end away; an errno, or 0.
int Give(int link, const std::string& text, Pipe& pipe, absl::Duration timeout) {
  const OwnedFd given = std::move(pipe.writing);
  const int fd = given.get();
  return SendNotificationPatiently(link, text, absl::MakeConstSpan(&fd, 1), timeout);
}

bool IsClosedWithin(const Pipe& pipe, absl::Duration timeout) {
  const absl::Time deadline = SteadyNow() + timeout;
  while (true) {
    pollfd end = {pipe.reading.get(), 0, 0};
    const auto left_ms = std::max<int64_t>(absl::ToInt64Milliseconds(deadline - SteadyNow()), 0);
    const int ready = poll(&end, 1, static_cast<int>(left_ms));
    if (ready >= 0 || errno != EINTR) return ready > 0;
  }
}

}  // namespace

bool AwaitNotified(int link, absl::Duration timeout) {
  Pipe pipe = MakePipe();
  return pipe.writing.valid() && Give(link, words::kBarrier, pipe, timeout) == 0 &&
         IsClosedWithin(pipe, timeout);
}

bool HoldsDescriptors(const std::string& address, absl::Duration timeout) {
  const absl::StatusOr<OwnedFd> link = ConnectToNotifySocket(address);
  Pipe probe = MakePipe();
  if (!link.ok() || !probe.writing.valid()) return false;
  const std::string name = absl::StrCat(words::kFileName, "=probe");
  if (Give(link->get(), absl::StrCat(words::kStore, "\n", name), probe, timeout) != 0 ||
      !AwaitNotified(link->get(), timeout) || IsClosedWithin(probe, absl::ZeroDuration())) {
    return false;
  }
  return SendNotificationPatiently(link->get(), absl::StrCat(words::kForget, "\n", name), {},
                                   timeout) == 0;
}

void SayReady(const std::string& address) {
  const absl::StatusOr<OwnedFd> link = ConnectToNotifySocket(address);
  // Nobody is there who would want to know.
  if (!link.ok()) return;
  SendNotification(link->get(), absl::StrCat(words::kMainPid, "=", getpid(), "\n", words::kReady));
}

}  // namespace evermap
