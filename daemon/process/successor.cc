#include "daemon/process/successor.h"

#include <poll.h>

#include <algorithm>
#include <cassert>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/host/descriptor_limit.h"
#include "daemon/host/steady_time.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/predecessor.h"

namespace evermap {
namespace {

// How long the predecessor may take to hand all over: longer than its own patience with its workers
// (kPauseTimeout) and with a successor that does not take its messages (kCommitTimeout).
constexpr absl::Duration kHandOverTimeout = absl::Seconds(15);
// What is sent of a reason, so that the message stays below kNotifyTextMax.
constexpr size_t kReasonSizeMax = kNotifyTextMax / 2;

}  // namespace

absl::Status Successor::Say(std::string_view word) {
  const int error = SendNotificationPatiently(link_.get(), word, {}, kCommitTimeout);
  return error == 0 ? absl::OkStatus()
                    : absl::ErrnoToStatus(error, "the mapper to take over from does not listen");
}

absl::StatusOr<std::vector<OwnedFd>> Successor::ReceiveFiles() {
  Notification message;
  switch (AwaitNotification(link_.get(), message, kHandOverTimeout)) {
    case Received::kMessage:
      if (!message.Says(words::kFiles)) {
        return absl::AbortedError("the mapper to take over from says something else first");
      }
      if (absl::Status status = Say(words::kTakesFiles); !status.ok()) return status;
      return std::move(message.fds);
    case Received::kNothing:
      return absl::DeadlineExceededError("the mapper to take over from hands no registry over");
    case Received::kClosed:
      break;
  }
  return absl::AbortedError("the mapper to take over from is gone");
}

bool Successor::PredecessorLives() const {
  pollfd link = {link_.get(), 0, 0};
  return poll(&link, 1, 0) == 0;
}

absl::StatusOr<std::vector<OwnedFd>> Successor::ReceiveConnections() {
  FaultPoint("successor:prepared");
  if (absl::Status status = Say(words::kPrepared); !status.ok()) return status;
  std::vector<OwnedFd> connections;
  Notification message;
  const absl::Time deadline = SteadyNow() + kHandOverTimeout;
  do {
    switch (AwaitNotification(link_.get(), message, deadline - SteadyNow())) {
      case Received::kMessage:
        break;
      case Received::kNothing:
        return absl::DeadlineExceededError("the mapper to take over from hands nothing over");
      case Received::kClosed:
        return absl::AbortedError("the mapper to take over from is gone");
    }
    // The predecessor has them all, and serves on.
    if (message.has_lost_fds) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the limit of ", RaiseDescriptorLimit(),
                       " open files leaves no room for all connections; raise it (ulimit -n, "
                       "LimitNOFILE=)"));
    }
    for (OwnedFd& fd : message.fds) connections.push_back(std::move(fd));
  } while (!message.Says(words::kYours));
  FaultPoint("successor:yours");
  return connections;
}

absl::Status Successor::Commit() {
  FaultPoint("successor:commit");
  if (absl::Status status = Say(words::kReady); !status.ok()) return status;
  FaultPoint("successor:committed");
  return absl::OkStatus();
}

void Successor::SayServing() {
  FaultPoint("successor:serving");
  // A predecessor that does not hear it ends after kCommitTimeout all the same.
  SendNotificationPatiently(link_.get(), words::kServing, {}, kCommitTimeout);
}

void Successor::SayFailure(std::string_view reason) {
  const size_t size = std::min(reason.size(), kReasonSizeMax);
  // A predecessor that does not hear it says how this process ended instead.
  SendNotification(link_.get(),
                   absl::StrCat(words::kFailure, "=", absl::string_view(reason.data(), size)));
}

bool Successor::TakeLate(absl::FunctionRef<void(OwnedFd)> take) {
  assert(link_.valid());
  Notification message;
  while (true) {
    switch (ReceiveNotification(link_.get(), message)) {
      case Received::kMessage:
        // Registrations whose connections are lost become orphans when the predecessor has ended
        // (mapper/leftovers.h).
        for (OwnedFd& fd : message.fds) take(std::move(fd));
        break;
      case Received::kNothing:
        return true;
      case Received::kClosed:
        link_ = OwnedFd();
        return false;
    }
  }
}

}  // namespace evermap
