#include "daemon/process/predecessor.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/custody/words.h"
#include "daemon/host/log.h"
#include "daemon/host/own_program.h"
#include "daemon/host/steady_time.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/process_fd.h"
#include "daemon/process/upgrade_record.h"
#include "registry/base/clock.h"
#include "registry/base/text.h"
#include "registry/upgrade_request.h"

namespace evermap {
namespace {

// How long a successor that has closed its end of the link may take to end by itself: only then it
// is known how it ended.
constexpr absl::Duration kEndPatience = absl::Milliseconds(200);

}  // namespace

Predecessor::Predecessor(Host& host, Claim& claim, const Custody& custody, Store& store,
                         absl::Span<const int> listeners, const std::vector<std::string>& arguments)
    : host_(host),
      claim_(claim),
      registry_(claim.registry()),
      custody_(custody),
      store_(store),
      listeners_(listeners),
      arguments_(arguments),
      own_program_(OwnProgram()) {}

void Predecessor::Begin() {
  if (is_under_way()) {
    Log(Severity::kWarning, "an upgrade is under way already");
    return;
  }
  RecordUpgradeBegun(registry_);
  if (!store_.holds()) {
    Fail(
        "nobody would look after the new process: this mapper has neither a keeper nor systemd; "
        "start it without -no_keeper, or as a service of Type=notify");
    return;
  }
  const UpgradeRequest request = TakeUpgradeRequest(registry_.path());
  if (!request.complaint.empty()) Log(Severity::kWarning, "%s", request.complaint);
  program_ = request.program.empty() ? own_program_ : request.program;
  Log(Severity::kNotice, "upgrade: starts %s", program_);
  if (const absl::Status status = StartSuccessor(); !status.ok()) {
    Fail(std::string(status.message()));
  }
}

absl::Status Predecessor::StartSuccessor() {
  reason_.clear();
  has_given_up_ = false;
  is_prepared_ = false;
  takes_files_ = false;
  sent_.clear();
  auto ends = NotifyPair();
  if (!ends.ok()) return ends.status();
  Launch launch{.program = program_,
                .arguments = arguments_,
                .environment = {absl::StrCat(kBinaryVariable, "=", program_),
                                absl::StrCat(variables::kOffersFiles, "=1")},
                .descriptors = {listeners_.begin(), listeners_.end()},
                .links = {{variables::kPredecessorLink, ends->second.get()}}};
  if (store_.link() >= 0) {
    launch.links.emplace_back(store_.link_variable(), store_.link());
  }
  absl::StatusOr<Watched> started = StartWatched(launch);
  if (!started.ok()) return started.status();
  successor_ = *std::move(started);
  link_ = std::move(ends->first);
  SendFiles();
  deadline_ms_ = MonotonicCoarseMs() + absl::ToInt64Milliseconds(kPrepareTimeout);
  FaultPoint("predecessor:started");
  return absl::OkStatus();
}

void Predecessor::StartOlderOrFail(const std::string& reason) {
  const bool is_older = has_given_up_ && !takes_files_;
  // Of what it lacks it could have been given all.
  if (!is_older || down_copy_ != nullptr || !claim_.IsPublished()) return Fail(reason);
  Problem problem;
  down_copy_ = DownCopy::Publish(claim_.path(), problem);
  if (down_copy_ == nullptr) return Fail(absl::StrCat(reason, "; ", problem.message));
  FaultPoint("predecessor:copied");
  Log(Severity::kNotice, "upgrade: starts %s again, with the registry in the layout of 0.1.0",
      program_);
  if (const absl::Status status = StartSuccessor(); !status.ok()) {
    Fail(std::string(status.message()));
  }
}

// A successor that is not there any more is noticed by its end.
void Predecessor::SendFiles() const {
  std::vector<int> fds;
  for (const Claim::File& file : claim_.files()) fds.push_back(file.fd);
  SendNotificationPatiently(link_.get(), words::kFiles, fds, kCommitTimeout);
}

bool Predecessor::Continue() {
  assert(is_under_way());
  Notification message;
  switch (ReceiveNotification(link_.get(), message)) {
    case Received::kNothing:
      if (MonotonicCoarseMs() >= deadline_ms_) {
        Cancel(absl::StrCat("the new program was not ready within ",
                            absl::FormatDuration(kPrepareTimeout)));
      }
      return false;
    case Received::kClosed:
      StartOlderOrFail(End(kEndPatience));
      return false;
    case Received::kMessage:
      break;
  }
  if (!IsPrepared(message)) return false;
  is_prepared_ = true;
  FaultPoint("predecessor:prepared");
  if (const absl::Status status = HandOver(); !status.ok()) return GiveUp(status);
  FaultPoint("predecessor:committed");
  return true;
}

bool Predecessor::IsPrepared(const Notification& message) {
  if (const auto reason = message.Get(words::kFailure)) {
    has_given_up_ = true;
    reason_ = std::string(*reason);
  }
  if (const auto text = message.Get(words::kNotExecuted)) {
    int error = 0;
    if (absl::SimpleAtoi(absl::string_view(text->data(), text->size()), &error)) {
      reason_ = absl::StrCat("the new program cannot be executed: ", ErrorText(error));
    }
  }
  if (message.Says(words::kTakesFiles)) takes_files_ = true;
  return message.Says(words::kPrepared);
}

bool Predecessor::GiveUp(const absl::Status& status) {
  FaultPoint("predecessor:failed");
  if (is_under_way()) End(absl::ZeroDuration());
  if (HasCommitted()) {
    // It committed just when it was given up. It may have told the store, which starts another
    // mapper now that it has ended; so this one must not serve beside that.
    Log(Severity::kError, "the new mapper has committed too late and was ended: %s",
        status.message());
    return true;
  }
  // It may have said why it takes nothing.
  Fail(reason_.empty() ? std::string(status.message()) : reason_);
  // A store that is busy has been told before anything else, and is not waited for: nobody is answered.
  if (!takes_files_) store_.HoldFiles(claim_.files(), {});
  host_.ResumeWorkers();
  return false;
}

absl::Status Predecessor::HandOver() {
  // Most connections are sent while the workers serve on, so that the pause is short.
  if (absl::Status status = SendConnections(); !status.ok()) return status;
  FaultPoint("predecessor:bulk");
  if (!host_.PauseWorkers()) return absl::UnavailableError("the workers do not pause");
  if (absl::Status status = SendConnections(); !status.ok()) return status;
  FaultPoint("predecessor:paused");
  if (down_copy_ != nullptr) {
    if (const Problem problem = down_copy_->Refresh(); problem) {
      return absl::ResourceExhaustedError(problem.message);
    }
  }
  if (!takes_files_) store_.ForgetFiles(claim_.files());
  if (const int error = SendNotificationPatiently(link_.get(), words::kYours, {}, kCommitTimeout);
      error != 0) {
    return absl::ErrnoToStatus(error, "the new program does not listen");
  }
  FaultPoint("predecessor:yours");
  return AwaitCommit();
}

absl::Status Predecessor::AwaitCommit() {
  const absl::Time deadline = SteadyNow() + kCommitTimeout;
  Notification message;
  while (true) {
    switch (AwaitNotification(link_.get(), message, deadline - SteadyNow())) {
      case Received::kMessage:
        if (message.Says(words::kReady)) return absl::OkStatus();
        if (const auto reason = message.Get(words::kFailure)) reason_ = std::string(*reason);
        break;
      case Received::kNothing:
        return absl::DeadlineExceededError(absl::StrCat("the new program did not take over within ",
                                                        absl::FormatDuration(kCommitTimeout)));
      case Received::kClosed:
        return absl::AbortedError(End(kEndPatience));
    }
  }
}

// Sends the connections that were not sent before.
absl::Status Predecessor::SendConnections() {
  std::vector<OwnedFd> batch;
  for (uint32_t slot = 0; slot < custody_.capacity(); ++slot) {
    if (custody_.DescriptorOf(slot) < 0 || !registry_.ReadSlot(slot, found_) ||
        sent_.contains(found_.id)) {
      continue;
    }
    OwnedFd connection = custody_.Duplicate(found_);
    if (!connection.valid() && errno == EMFILE && !batch.empty()) {
      // The duplicates that wait to be sent have a descriptor each.
      if (absl::Status status = SendBatch(batch); !status.ok()) return status;
      connection = custody_.Duplicate(found_);
    }
    if (!connection.valid()) {
      if (errno == EBADF) continue;  // the node has left meanwhile
      return absl::ErrnoToStatus(errno, "a connection cannot be handed over");
    }
    sent_.insert(found_.id);
    batch.push_back(std::move(connection));
    if (batch.size() < kNotifyFdsMax) continue;
    if (absl::Status status = SendBatch(batch); !status.ok()) return status;
  }
  return batch.empty() ? absl::OkStatus() : SendBatch(batch);
}

// Sends `batch` and empties it.
absl::Status Predecessor::SendBatch(std::vector<OwnedFd>& batch) {
  std::vector<int> fds;
  for (const OwnedFd& fd : batch) fds.push_back(fd.get());
  const int error = SendNotificationPatiently(link_.get(), words::kStore, fds, kCommitTimeout);
  batch.clear();
  return error == 0 ? absl::OkStatus()
                    : absl::ErrnoToStatus(error, "the new program takes no connections");
}

bool Predecessor::HasCommitted() {
  Notification message;
  while (ReceiveNotification(link_.get(), message) == Received::kMessage) {
    if (message.Says(words::kReady)) return true;
    if (const auto reason = message.Get(words::kFailure)) reason_ = std::string(*reason);
  }
  return false;
}

std::string Predecessor::End(absl::Duration patience) {
  assert(is_under_way());
  bool has_ended = HasEnded(patience);
  if (!has_ended) {
    const int error = SignalProcess(successor_.process.get(), successor_.pid, SIGKILL);
    has_ended = HasEnded(kKillPatience);
    if (!has_ended) {
      Log(Severity::kError, "the new program does not end%s%s; this mapper does not wait for it",
          error != 0 ? ": " : "", error != 0 ? ErrorText(error) : "");
      // It was killed, so it does nothing more in user mode, when it comes back to that at all; and
      // where it may not be killed, it learns that it has failed when it says that it commits.
      shutdown(link_.get(), SHUT_RD);
      // The watcher waits for it.
      kill(successor_.watcher, SIGKILL);
    }
  }
  // A successor that is prepared has ended its watcher, so that the watcher's end says nothing of
  // its own.
  int status = 0;
  // Beside one that does not end, its watcher may not end either.
  const int options = has_ended ? 0 : WNOHANG;
  while (waitpid(successor_.watcher, &status, options) < 0 && errno == EINTR) {
  }
  successor_ = Watched();
  if (!reason_.empty()) return reason_;
  if (!has_ended) return "the new program did not take over, and does not end";
  if (is_prepared_) return "the new program ended before it took over";
  if (WIFSIGNALED(status)) {
    return absl::StrCat("the new program was ended by signal ", sigabbrev_np(WTERMSIG(status)));
  }
  return absl::StrCat("the new program ended with exit code ", WEXITSTATUS(status));
}

bool Predecessor::HasEnded(absl::Duration patience) const {
  pollfd ended = {successor_.process.get(), POLLIN, 0};
  const absl::Time deadline = SteadyNow() + patience;
  while (true) {
    const int64_t left_ms = std::max<int64_t>(absl::ToInt64Milliseconds(deadline - SteadyNow()), 0);
    const int ready = poll(&ended, 1, static_cast<int>(left_ms));
    if (ready > 0) {
      if (::evermap::HasEnded(successor_.process.get(), successor_.pid)) return true;
      continue;
    }
    // When poll(2) fails otherwise, the successor is killed a little early.
    if (ready == 0 || errno != EINTR) return false;
  }
}

void Predecessor::Cancel(const std::string& reason) {
  if (is_under_way()) End(absl::ZeroDuration());
  Fail(reason);
}

void Predecessor::Fail(const std::string& reason) {
  successor_ = Watched();
  link_ = OwnedFd();
  // The successor does not run any more, so whatever it has done to the registry can be undone.
  if (is_prepared_ || down_copy_ != nullptr) {
    const absl::Status restored = registry_.RollBackSuccessorsMigration();
    if (!restored.ok()) Log(Severity::kError, "%s", restored.message());
  }
  down_copy_ = nullptr;
  Log(Severity::kError, "the upgrade failed, this mapper serves on: %s", reason);
  RecordUpgradeFailed(registry_, reason);
}

void Predecessor::Pass(int fd) const {
  if (!link_.valid()) return;
  // When the successor is gone, the store has the connection for the next mapper.
  SendNotificationPatiently(link_.get(), words::kStore, absl::MakeConstSpan(&fd, 1),
                            kCommitTimeout);
}

bool Predecessor::AwaitServing() {
  Notification message;
  const absl::Time deadline = SteadyNow() + kCommitTimeout;
  while (AwaitNotification(link_.get(), message, deadline - SteadyNow()) == Received::kMessage) {
    if (message.Says(words::kServing)) return true;
  }
  Log(Severity::kError, "the new mapper has committed and does not serve");
  return false;
}

}  // namespace evermap
