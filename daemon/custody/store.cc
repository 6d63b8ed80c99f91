#include "daemon/custody/store.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/custody/notify.h"
#include "daemon/host/own_program.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

// The name is for systemd, and for people who look at its store.
constexpr std::string_view kStoreMessage = "FDSTORE=1\nFDNAME=n";
constexpr absl::Duration kFlushPause = absl::Milliseconds(5);

}  // namespace

std::string_view Store::name() const {
  switch (kind_) {
    case Kind::kNone:
      return "none";
    case Kind::kKeeper:
      return "keeper";
    case Kind::kSystemd:
      return "systemd";
  }
  return "none";
}

void Store::Put(OwnedFd fd) {
  if (kind_ != Kind::kNone) waiting_.push_back(std::move(fd));
}

bool Store::Flush() {
  size_t sent = 0;
  int error = 0;
  while (sent < waiting_.size() && error == 0) {
    std::array<int, kNotifyFdsMax> fds;
    const size_t count = std::min(waiting_.size() - sent, fds.size());
    for (size_t i = 0; i < count; ++i) fds[i] = waiting_[sent + i].get();
    error = SendNotification(link_.get(), kStoreMessage, absl::MakeConstSpan(fds.data(), count));
    if (error == 0) sent += count;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(sent));
  // Too many descriptors on their way (ETOOMANYREFS) is as a full queue.
  return error == 0 || error == EAGAIN || error == ETOOMANYREFS || error == ENOBUFS ||
         error == ENOMEM;
}

bool Store::FlushPatiently(absl::Time deadline) {
  while (Flush()) {
    if (waiting_.empty() || absl::Now() >= deadline) return true;
    absl::SleepFor(kFlushPause);
  }
  return false;
}

bool Store::TakeOver() {
  std::string text = absl::StrCat("MAINPID=", getpid(), "\nREADY=1");
  // The keeper goes on as the same program, also when this process dies before it has looked.
  const std::string program = absl::StrCat(
      "\n", absl::string_view(kProgramKey.data(), kProgramKey.size()), "=", OwnProgram());
  if (kind_ == Kind::kKeeper && text.size() + program.size() <= kNotifyTextMax) text += program;
  if (Tell(text) || kind_ != Kind::kKeeper) return true;
  // Either it is dead, and this mapper will start another, or it has said why it does not listen.
  Notification message;
  return AwaitNotification(link_.get(), message, kTellTimeout) != Received::kMessage ||
         message.text != kTooLate;
}

bool Store::Tell(std::string_view text) {
  return kind_ == Kind::kNone ||
         SendNotificationPatiently(link_.get(), text, {}, kTellTimeout) == 0;
}

}  // namespace evermap
