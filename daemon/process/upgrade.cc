#include "daemon/process/upgrade.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// glibc 2.36's header does not say that its functions are C's.
extern "C" {
#include <sys/pidfd.h>
}

#include <array>
#include <cerrno>
#include <climits>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/custody/notify.h"
#include "daemon/host/log.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/launch.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/status.h"

namespace evermap {
namespace {

constexpr std::string_view kPrepared = "EVERMAP=prepared";
constexpr std::string_view kYours = "EVERMAP=yours";
constexpr std::string_view kServing = "EVERMAP=serving";
constexpr std::string_view kConnections = "FDSTORE=1";
// How long a predecessor may take to hand over what it promised.
constexpr absl::Duration kHandOverTimeout = absl::Seconds(15);
// How long a successor that has closed its end of the link may take to end by itself: then it is
// known how it ended.
constexpr absl::Duration kEndPatience = absl::Milliseconds(200);

// The program that REGISTRY.upgrade names; empty: there is none. Who may write to the registry's
// directory is the mapper's own user (MakeRegistryDirectory()), but a file of somebody else's is
// not believed even so.
std::string RequestedProgram(const std::string& registry_path) {
  const std::string path = registry_path + ".upgrade";
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return "";
  unlink(path.c_str());
  struct stat file;
  if (fstat(fd.get(), &file) != 0 || !S_ISREG(file.st_mode) ||
      (file.st_uid != geteuid() && file.st_uid != 0) || (file.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    Log(Severity::kWarning, "%s is not believed: others may write to it", path);
    return "";
  }
  std::array<char, PATH_MAX> text;
  const ssize_t size = read(fd.get(), text.data(), text.size());
  const absl::string_view program = absl::StripSuffix(
      absl::string_view(text.data(), size > 0 ? static_cast<size_t>(size) : 0), "\n");
  return program.substr(0, 1) == "/" ? std::string(program) : "";
}

}  // namespace

Upgrade::Upgrade(Host& host, Registry& registry, const Custody& custody, const Store& store,
                 absl::Span<const int> listeners, const std::vector<std::string>& arguments)
    : host_(host),
      registry_(registry),
      custody_(custody),
      store_(store),
      listeners_(listeners),
      arguments_(arguments),
      program_(OwnProgram()) {}

void Upgrade::Begin() {
  if (is_under_way()) {
    Log(Severity::kWarning, "an upgrade is under way already");
    return;
  }
  UpgradeStatus status = registry_.upgrade_status();
  ++status.number;
  status.unix_ns = absl::ToUnixNanos(absl::Now());
  status.outcome = UpgradeStatus::Outcome::kRunning;
  status.text = "";
  registry_.SetUpgradeStatus(status);
  reason_.clear();
  is_prepared_ = false;
  sent_.clear();
  if (store_.kind() == Store::Kind::kNone) {
    Fail(
        "nobody would look after the new process: this mapper has neither a keeper nor systemd; "
        "start it without -no_keeper, or as a service of Type=notify");
    return;
  }
  std::string program = RequestedProgram(registry_.path());
  if (program.empty()) program = program_;
  Log(Severity::kNotice, "upgrade: starts %s", program);
  auto ends = NotifyPair();
  if (!ends.ok()) {
    Fail(std::string(ends.status().message()));
    return;
  }
  Launch launch{.program = program,
                .arguments = arguments_,
                .environment = {absl::StrCat("EVERMAP_BINARY=", program)},
                .descriptors = {listeners_.begin(), listeners_.end()},
                .links = {{"EVERMAP_PREDECESSOR", ends->second.get()}}};
  if (store_.kind() == Store::Kind::kKeeper) {
    launch.links.emplace_back("EVERMAP_KEEPER", store_.link());
  }
  absl::StatusOr<Watched> started = StartWatched(launch);
  if (!started.ok()) {
    Fail(std::string(started.status().message()));
    return;
  }
  successor_ = *std::move(started);
  link_ = std::move(ends->first);
  deadline_ms_ = MonotonicCoarseMs() + absl::ToInt64Milliseconds(kPrepareTimeout);
  FaultPoint("predecessor:started");
}

bool Upgrade::Continue() {
  Notification message;
  switch (ReceiveNotification(link_.get(), message)) {
    case Received::kNothing:
      if (MonotonicCoarseMs() >= deadline_ms_) {
        Cancel(absl::StrCat("the new program was not ready within ",
                            absl::FormatDuration(kPrepareTimeout)));
      }
      return false;
    case Received::kClosed:
      Fail(End(kEndPatience));
      return false;
    case Received::kMessage:
      break;
  }
  if (const auto text = message.Get("STATUS"); text.has_value()) reason_ = std::string(*text);
  if (const auto text = message.Get("ERRNO"); text.has_value()) {
    int error = 0;
    if (absl::SimpleAtoi(absl::string_view(text->data(), text->size()), &error)) {
      reason_ = absl::StrCat("the new program cannot be executed: ", ErrorText(error));
    }
  }
  if (message.text != kPrepared) return false;
  is_prepared_ = true;
  FaultPoint("predecessor:prepared");
  if (const absl::Status status = HandOver(); !status.ok()) {
    FaultPoint("predecessor:failed");
    if (is_under_way()) End(absl::ZeroDuration());
    if (HasCommitted()) {
      // Just when it was given up. The store may have been told, and starts another mapper.
      Log(Severity::kError, "the new mapper has committed too late and was ended: %s",
          status.message());
      return true;
    }
    // Whatever it has done: it is not there any more, and the registry is put back.
    Fail(std::string(status.message()));
    if (const absl::Status restored = registry_.RollBackSuccessorsMigration(); !restored.ok()) {
      Log(Severity::kError, "%s", restored.message());
    }
    host_.ResumeWorkers();
    return false;
  }
  FaultPoint("predecessor:committed");
  return true;
}

absl::Status Upgrade::HandOver() {
  // Most of it while the workers serve on.
  if (absl::Status status = SendConnections(); !status.ok()) return status;
  FaultPoint("predecessor:bulk");
  if (!host_.PauseWorkers()) return absl::UnavailableError("the workers do not pause");
  if (absl::Status status = SendConnections(); !status.ok()) return status;
  FaultPoint("predecessor:paused");
  if (const int error = SendNotificationPatiently(link_.get(), kYours, {}, kCommitTimeout);
      error != 0) {
    return absl::ErrnoToStatus(error, "the new program does not listen");
  }
  FaultPoint("predecessor:yours");
  const absl::Time deadline = absl::Now() + kCommitTimeout;
  Notification message;
  while (true) {
    switch (AwaitNotification(link_.get(), message, deadline - absl::Now())) {
      case Received::kMessage:
        if (message.Get("READY") == "1") return absl::OkStatus();
        if (const auto text = message.Get("STATUS"); text.has_value()) {
          reason_ = std::string(*text);
        }
        break;
      case Received::kNothing:
        return absl::DeadlineExceededError(absl::StrCat("the new program did not take over within ",
                                                        absl::FormatDuration(kCommitTimeout)));
      case Received::kClosed:
        return absl::AbortedError(End(kEndPatience));
    }
  }
}

// Sends what was not sent before.
absl::Status Upgrade::SendConnections() {
  std::vector<OwnedFd> batch;
  const auto send = [&]() -> absl::Status {
    std::vector<int> fds;
    for (const OwnedFd& fd : batch) fds.push_back(fd.get());
    const int error = SendNotificationPatiently(link_.get(), kConnections, fds, kCommitTimeout);
    batch.clear();
    return error == 0 ? absl::OkStatus()
                      : absl::ErrnoToStatus(error, "the new program takes no connections");
  };
  for (uint32_t slot = 0; slot < custody_.capacity(); ++slot) {
    if (custody_.DescriptorOf(slot) < 0 || !registry_.ReadSlot(slot, found_) ||
        sent_.contains(found_.id)) {
      continue;
    }
    OwnedFd connection = custody_.Duplicate(found_);
    if (!connection.valid() && errno == EMFILE && !batch.empty()) {
      if (absl::Status status = send(); !status.ok()) return status;
      connection = custody_.Duplicate(found_);
    }
    if (!connection.valid()) {
      if (errno == EBADF) continue;  // it has just left
      return absl::ErrnoToStatus(errno, "a connection cannot be handed over");
    }
    sent_.insert(found_.id);
    batch.push_back(std::move(connection));
    if (batch.size() < kNotifyFdsMax) continue;
    if (absl::Status status = send(); !status.ok()) return status;
  }
  return batch.empty() ? absl::OkStatus() : send();
}

bool Upgrade::HasCommitted() {
  Notification message;
  while (ReceiveNotification(link_.get(), message) == Received::kMessage) {
    if (message.Get("READY") == "1") return true;
  }
  return false;
}

std::string Upgrade::End(absl::Duration patience) {
  int status = 0;
  pollfd ended = {successor_.process.get(), POLLIN, 0};
  // When it fails the successor is killed a little early.
  poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(patience)));
  pidfd_send_signal(successor_.process.get(), SIGKILL, nullptr, 0);
  while (waitpid(successor_.watcher, &status, 0) < 0 && errno == EINTR) {
  }
  // It may be without its watcher: then it is waited for here.
  while (poll(&ended, 1, -1) < 0 && errno == EINTR) {
  }
  successor_ = Watched();
  if (!reason_.empty()) return reason_;
  if (is_prepared_) return "the new program ended before it took over";
  if (WIFSIGNALED(status)) {
    return absl::StrCat("the new program was ended by signal ", sigabbrev_np(WTERMSIG(status)));
  }
  return absl::StrCat("the new program ended with exit code ", WEXITSTATUS(status));
}

void Upgrade::Cancel(const std::string& reason) {
  if (is_under_way()) End(absl::ZeroDuration());
  Fail(reason);
}

void Upgrade::Fail(const std::string& reason) {
  successor_ = Watched();
  link_ = OwnedFd();
  Log(Severity::kError, "the upgrade failed, this mapper serves on: %s", reason);
  UpgradeStatus status = registry_.upgrade_status();
  status.unix_ns = absl::ToUnixNanos(absl::Now());
  status.outcome = UpgradeStatus::Outcome::kFailed;
  status.text = reason;
  registry_.SetUpgradeStatus(status);
}

void Upgrade::Pass(int fd) const {
  if (!link_.valid()) return;
  // If it is gone, the store has the connection.
  SendNotificationPatiently(link_.get(), kConnections, absl::MakeConstSpan(&fd, 1), kCommitTimeout);
}

bool Upgrade::AwaitServing() {
  Notification message;
  const absl::Time deadline = absl::Now() + kCommitTimeout;
  while (AwaitNotification(link_.get(), message, deadline - absl::Now()) == Received::kMessage) {
    if (message.text == kServing) return true;
  }
  Log(Severity::kError, "the new mapper has committed and does not serve");
  return false;
}

absl::Status Succession::Say(std::string_view text) {
  const int error = SendNotificationPatiently(link_.get(), text, {}, kCommitTimeout);
  return error == 0 ? absl::OkStatus()
                    : absl::ErrnoToStatus(error, "the mapper to take over from does not listen");
}

absl::StatusOr<std::vector<OwnedFd>> Succession::TakeOver() {
  FaultPoint("successor:prepared");
  if (absl::Status status = Say(kPrepared); !status.ok()) return status;
  std::vector<OwnedFd> connections;
  Notification message;
  const absl::Time deadline = absl::Now() + kHandOverTimeout;
  while (true) {
    switch (AwaitNotification(link_.get(), message, deadline - absl::Now())) {
      case Received::kMessage:
        break;
      case Received::kNothing:
        return absl::DeadlineExceededError("the mapper to take over from hands nothing over");
      case Received::kClosed:
        return absl::AbortedError("the mapper to take over from is gone");
    }
    for (OwnedFd& fd : message.fds) connections.push_back(std::move(fd));
    if (message.text == kYours) break;
  }
  FaultPoint("successor:yours");
  return connections;
}

absl::Status Succession::Commit() {
  FaultPoint("successor:commit");
  if (absl::Status status = Say("READY=1"); !status.ok()) return status;
  FaultPoint("successor:committed");
  return absl::OkStatus();
}

void Succession::SayServing() {
  FaultPoint("successor:serving");
  // It ends without, too: after kCommitTimeout.
  SendNotificationPatiently(link_.get(), kServing, {}, kCommitTimeout);
}

void Succession::SayFailure(std::string_view reason) {
  SendNotification(
      link_.get(),
      absl::StrCat("STATUS=",
                   absl::string_view(reason.data(), std::min(reason.size(), kNotifyTextMax / 2))));
}

bool Succession::TakeLate(absl::FunctionRef<void(OwnedFd)> take) {
  Notification message;
  while (true) {
    switch (ReceiveNotification(link_.get(), message)) {
      case Received::kMessage:
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
