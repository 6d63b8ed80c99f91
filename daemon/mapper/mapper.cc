#include "daemon/mapper/mapper.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/custody/notify.h"
#include "daemon/host/close_aside.h"
#include "daemon/host/log.h"
#include "daemon/host/steady_time.h"
#include "daemon/host/wake_fd.h"
#include "daemon/mapper/forgetting.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/keeper_start.h"
#include "daemon/serve/counting.h"
#include "daemon/serve/descriptor_budget.h"
#include "daemon/serve/worker.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/reader.h"
#include "registry/request_file.h"

namespace evermap {
namespace {

// How long new registrations gather until they are looked at, and up to two ticks of
// MonotonicCoarseMs() more: a client that registers in a loop is gone by then, and of many that
// come at once the store gets kStoreDuplicatesMax in a message.
constexpr int64_t kGatherMs = 2;
// How many duplicates of connections wait for the store at a time. Their descriptors are among
// those that are kept for requests.
constexpr size_t kStoreDuplicatesMax = kDescriptorsForRequests / 2;
static_assert(kStoreDuplicatesMax <= kNotifyFdsMax);
// The least time between two starts of a keeper.
constexpr int64_t kKeeperPauseMs = 1000;
// How long the main thread pauses when the kernel has no memory for poll(2).
constexpr absl::Duration kMemoryPause = absl::Milliseconds(10);

constexpr char kKeeperDied[] = "the keeper has died meanwhile";

// Wakes the main thread for a stop. One for the process, since there is one mapper in it.
int g_stop_fd = -1;

void RequestStop(std::string_view reason) {
  Log(Severity::kNotice, "ends: %s", reason);
  Wake(g_stop_fd);
}

}  // namespace

Mapper::Mapper(Options options, const std::vector<std::string>& arguments, Inheritance inherited)
    : configuration_(std::move(options), arguments),
      options_(configuration_.options()),
      arguments_(arguments),
      startup_(configuration_, std::move(inherited), parts_),
      gather_(timers_, [this] { TakeNew(); }),
      keeper_start_(timers_, [this] { ReplaceKeeper(); }),
      upgrade_deadline_(timers_, [this] { ContinueUpgrade(); }),
      keeper_started_ms_(MonotonicCoarseMs() - kKeeperPauseMs) {}

MapperEnd Mapper::Run(absl::FunctionRef<void()> on_ready) {
  const absl::Status started = Start(on_ready);
  if (!started.ok()) return {.exit_code = startup_.Fail(started)};
  Serve();
  if (!Leave()) return {.exit_code = 1};
  if (stage_ == Stage::kHandingOver) return AwaitSuccession();
  return {.signal = parts_.store->outlives_mapper() ? ending_signal_ : 0};
}

absl::Status Mapper::Start(absl::FunctionRef<void()> on_ready) {
  if (absl::Status status = startup_.Prepare(); !status.ok()) return status;
  g_stop_fd = parts_.stop_fd.get();
  absl::StatusOr<std::vector<OwnedFd>> connections = startup_.TakeOver();
  if (!connections.ok()) return connections.status();
  if (absl::Status status = startup_.MakeWorkers(connections->size(), RequestStop); !status.ok()) {
    return status;
  }
  MakeUnits();
  adoption_->Begin(*std::move(connections), std::move(parts_.connections_link));
  if (parts_.successor.has_value()) adoption_->AwaitLate();
  if (absl::Status status = startup_.Commit(); !status.ok()) return status;
  deposits_->Flush();
  if (absl::Status status = startup_.Announce(); !status.ok()) return status;
  // From here on the registry has what its file from before a migration does not.
  parts_.registry->FinishMigration();
  ClearGauges(*parts_.registry, static_cast<uint32_t>(parts_.workers.size()),
              parts_.registry->view().mapper_status().workers);
  // A new file wakes readers of the directory: those that find this mapper in the registry expect that
  // it tells them of changes.
  configuration_.WriteNote(parts_.registry->path());
  startup_.Record();
  SetPhase(Phase::kServing);
  on_ready();
  Log(Severity::kNotice, "serves port %d with %d workers through %s; registry %s", options_.port,
      parts_.workers.size(), parts_.loop_reason, parts_.registry->path());
  StartLookout();
  StartNotifier();
  stage_ = Stage::kServing;
  if (parts_.successor.has_value()) parts_.successor->SayServing();
  if (parts_.listeners_are_inherited) leftovers_->Watch(/*more_comes=*/true);
  publication_->Watch();
  idle_exit_->Set(options_.idle_exit);
  return absl::OkStatus();
}

void Mapper::MakeUnits() {
  Registry& registry = *parts_.registry;
  Custody& custody = *parts_.custody;
  inquiry_.emplace(registry, custody, timers_);
  deposits_.emplace(*parts_.store, custody, registry, kStoreDuplicatesMax, timers_);
  const auto give = [this, next = size_t{0}](OwnedFd connection, RegistrationRef node) mutable {
    Worker& worker = *parts_.workers[next++ % parts_.workers.size()];
    worker.Adopt(std::move(connection), node);
  };
  restoration_.emplace(registry, custody, *inquiry_, timers_, options_.orphan_grace, give);
  std::vector<const Registering*> registering;
  for (const std::unique_ptr<Worker>& worker : parts_.workers) {
    registering.push_back(&worker->registering());
  }
  leftovers_.emplace(
      registry, custody, *restoration_, timers_, parts_.listeners, [this] { AcceptAnew(); },
      std::move(registering));
  adoption_.emplace(registry, custody, *restoration_, timers_, [this] { OnAdopted(); });
  Predecessor::Host& host = *this;
  predecessor_.emplace(host, *parts_.claim, custody, *parts_.store, parts_.listeners, arguments_);
  const Pausing pausing = {.is_alone =
                               [this] {
                                 return !predecessor_->is_under_way() &&
                                        !parts_.successor.has_value() &&
                                        !adoption_->is_under_way() && !keeper_start_.is_planned();
                               },
                           .pause = [this] { return PauseWorkers(); },
                           .resume = [this] { ResumeWorkers(); }};
  publication_.emplace(options_, *parts_.claim, *parts_.store, timers_, pausing,
                       [this] { configuration_.WriteNote(parts_.registry->path()); });
  idle_exit_.emplace(registry, parts_.listeners, timers_, pausing, [this] { EndAsTold(); });
  reload_.emplace(configuration_, registry, pausing, [this] {
    parts_.shared->options = configuration_.serve_options();
    if (parts_.listeners_are_inherited) configuration_.CheckInherited(parts_.listeners);
    SetLogLevel(options_.debug_level);
    idle_exit_->Set(options_.idle_exit);
  });
}

void Mapper::AcceptAnew() {
  for (const std::unique_ptr<Worker>& worker : parts_.workers) worker->AcceptAnew();
}

void Mapper::StartLookout() {
  // Where there is one worker, no other could take its place. But what an earlier mapper's ring was
  // woken for (leftovers.h) waits until it is told.
  if (parts_.workers.size() == 1 && !parts_.listeners_are_inherited) return;
  const auto accepted = [this] {
    uint64_t count = 0;
    for (uint32_t number = 0; number < parts_.workers.size(); ++number) {
      count +=
          parts_.registry->statistics(number).connections_accepted.load(std::memory_order_relaxed);
    }
    return count;
  };
  lookout_.emplace();
  const absl::Status started = lookout_->Start(
      parts_.listeners, {.accept_anew = [this] { AcceptAnew(); }, .accepted = accepted});
  if (started.ok()) return;
  Log(Severity::kWarning,
      "a worker, or mapper, that stands still may keep new connections waiting: %s",
      started.message());
}

void Mapper::StartNotifier() {
  const absl::Status started = parts_.shared->notifier.Start();
  if (started.ok()) return;
  Log(Severity::kWarning, "readers are not told of changes, and have to poll: %s",
      started.message());
}

void Mapper::Serve() {
  assert(stage_ == Stage::kServing);
  while (stage_ == Stage::kServing) Turn();
}

void Mapper::Turn() {
  // Of what the last turn has changed, and a predecessor that died before it has said so.
  parts_.shared->notifier.TellIfChanged();
  if (deposits_->store_is_gone()) PlanKeeper();
  enum {
    kSignals,
    kStop,
    kCustody,
    kDisputes,
    kKeeper,
    kUpgrade,
    kPredecessor,
    kAdoption,
    kPolled
  };
  std::array<pollfd, kPolled> polled;
  // poll(2) leaves out what has no descriptor (-1).
  polled[kSignals] = {parts_.signal_fd.get(), POLLIN, 0};
  polled[kStop] = {parts_.stop_fd.get(), POLLIN, 0};
  polled[kCustody] = {gather_.is_planned() ? -1 : parts_.custody_fd.get(), POLLIN, 0};
  polled[kDisputes] = {parts_.disputes_fd.get(), POLLIN, 0};
  // A keeper says nothing, but its end is noticed, once.
  polled[kKeeper] = {keeper_start_.is_planned() ? -1 : parts_.store->link(), 0, 0};
  polled[kUpgrade] = {predecessor_->is_under_way() ? predecessor_->link() : -1, POLLIN, 0};
  polled[kPredecessor] = {parts_.successor.has_value() ? parts_.successor->link() : -1, POLLIN, 0};
  polled[kAdoption] = {adoption_->link(), POLLIN, 0};
  if (poll(polled.data(), polled.size(), timers_.TimeoutMs(MonotonicCoarseMs())) < 0) {
    if (errno == EINTR) return;
    if (errno == ENOMEM || errno == EAGAIN) {
      absl::SleepFor(kMemoryPause);
      return;
    }
    Log(Severity::kError, "cannot wait for signals: %s", ErrorText(errno));
    stage_ = Stage::kLeaving;
    return;
  }
  if (polled[kStop].revents != 0 || (polled[kSignals].revents != 0 && !OnSignals())) {
    EndAsTold();
    return;
  }
  if ((polled[kKeeper].revents & (POLLHUP | POLLERR)) != 0) PlanKeeper();
  if (polled[kCustody].revents != 0) gather_.Plan(MonotonicCoarseMs() + kGatherMs);
  if (polled[kDisputes].revents != 0) {
    ClearWakes(parts_.disputes_fd.get());
    parts_.shared->disputes.Settle(*parts_.registry, *parts_.custody, disputes_query_);
  }
  if (polled[kPredecessor].revents != 0) OnPredecessor();
  if (polled[kAdoption].revents != 0) adoption_->OnLink();
  if (polled[kUpgrade].revents != 0) ContinueUpgrade();
  if (stage_ == Stage::kServing) timers_.RunDue(MonotonicCoarseMs());
  if (stage_ == Stage::kServing) reload_->GoOn();
}

bool Mapper::OnSignals() {
  signalfd_siginfo signal = {};
  while (read(parts_.signal_fd.get(), &signal, sizeof(signal)) == sizeof(signal)) {
    if (signal.ssi_signo == SIGHUP) {
      is_upgrade_asked_ = true;
      if (!adoption_->is_under_way()) BeginUpgrade();
      continue;
    }
    if (static_cast<int>(signal.ssi_signo) == kRequestSignal) {
      ForgetAsAsked(*parts_.registry, *parts_.custody);
      reload_->Ask();
      continue;
    }
    ending_signal_ = static_cast<int>(signal.ssi_signo);
    Log(Severity::kNotice, "ends: got signal %s", sigabbrev_np(ending_signal_));
    return false;
  }
  return true;
}

void Mapper::BeginUpgrade() {
  is_upgrade_asked_ = false;
  // A successor inherits the link to the keeper, so there has to be one.
  if (keeper_start_.is_planned()) ReplaceKeeper();
  predecessor_->Begin();
  parts_.shared->notifier.Tell();
  if (predecessor_->is_under_way()) upgrade_deadline_.Plan(predecessor_->deadline_ms());
}

void Mapper::OnAdopted() {
  for (const std::unique_ptr<Worker>& worker : parts_.workers) worker->Wake();
  if (parts_.listeners_are_inherited) leftovers_->Watch(adoption_->is_under_way());
  if (is_upgrade_asked_ && !adoption_->is_under_way()) BeginUpgrade();
}

void Mapper::EndAsTold() {
  // An end of this mapper was asked for, not another mapper.
  CancelUpgrade("the mapper was told to end");
  parts_.store->AnnounceStopping();
  stage_ = Stage::kLeaving;
}

void Mapper::OnPredecessor() {
  std::vector<OwnedFd> late;
  const bool is_there = parts_.successor->TakeLate(
      [&late](OwnedFd connection) { late.push_back(std::move(connection)); });
  adoption_->AddLate(std::move(late));
  if (is_there) return;
  parts_.successor.reset();
  adoption_->EndLate();
}

void Mapper::ContinueUpgrade() {
  if (!predecessor_->is_under_way()) return;
  const bool has_committed = predecessor_->Continue();
  parts_.shared->notifier.Tell();
  if (has_committed) {
    stage_ = Stage::kHandingOver;
  } else if (predecessor_->is_under_way()) {
    upgrade_deadline_.Plan(predecessor_->deadline_ms());
  }
}

void Mapper::CancelUpgrade(const std::string& reason) {
  if (predecessor_->is_under_way()) {
    predecessor_->Cancel(reason);
    parts_.shared->notifier.Tell();
  }
  upgrade_deadline_.Cancel();
}

void Mapper::TakeNew() {
  gather_.Cancel();
  ClearWakes(parts_.custody_fd.get());
  parts_.custody->TakeNew([this](uint32_t slot) {
    if (!parts_.registry->ReadSlot(slot, found_)) return;
    idle_exit_->OnRegistered();
    if (found_.state == RegistrationState::kRemembered) return;
    if (stage_ == Stage::kHandingOver) {
      const OwnedFd connection = deposits_->Duplicate(found_);
      if (connection.valid()) predecessor_->Pass(connection.get());
    }
    inquiry_->Add(found_);
    deposits_->Add({slot, found_.id});
  });
  deposits_->StoreDue();
}

void Mapper::PlanKeeper() {
  if (parts_.keeper == nullptr || keeper_start_.is_planned()) return;
  Log(Severity::kError, "the keeper has died; another one is started");
  // The successor has the link to the old keeper.
  CancelUpgrade(kKeeperDied);
  keeper_start_.Plan(std::max(MonotonicCoarseMs(), keeper_started_ms_ + kKeeperPauseMs));
}

void Mapper::ReplaceKeeper() {
  // A mapper that has a successor, or ends, needs none.
  if (stage_ != Stage::kServing) return;
  if (adoption_->is_under_way()) {
    // The new keeper is to get all connections.
    keeper_start_.Plan(MonotonicCoarseMs() + kKeeperPauseMs);
    return;
  }
  // The keeper would follow this mapper, and the successor start another one.
  CancelUpgrade(kKeeperDied);
  keeper_started_ms_ = MonotonicCoarseMs();
  // The process that has died may be a child of this one.
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  absl::StatusOr<OwnedFd> link = StartKeeper(arguments_, parts_.listeners);
  if (!link.ok()) {
    Log(Severity::kError, "no keeper: %s", link.status().message());
    keeper_start_.Plan(keeper_started_ms_ + kKeeperPauseMs);
    return;
  }
  keeper_start_.Cancel();
  parts_.keeper->Reconnect(*std::move(link));
  parts_.keeper->HoldFiles(parts_.claim->files(), {});
  parts_.keeper->HoldReadySets(ReadySets(parts_));
  deposits_->AddAll();
  deposits_->StoreDue();
}

bool Mapper::PauseWorkers() {
  SetPhase(Phase::kPaused);
  return parts_.shared->phases.AwaitAtRest(static_cast<uint32_t>(parts_.workers.size()),
                                           kPauseTimeout);
}

void Mapper::SetPhase(Phase phase) {
  parts_.shared->phases.Set(phase);
  for (const std::unique_ptr<Worker>& worker : parts_.workers) worker->Wake();
}

bool Mapper::Leave() {
  assert(stage_ == Stage::kHandingOver || stage_ == Stage::kLeaving);
  const bool has_successor = stage_ == Stage::kHandingOver;
  lookout_.reset();
  TakeNew();
  parts_.shared->has_successor.store(has_successor, std::memory_order_release);
  // After a migration this mapper's file is not the registry any more, so nothing must be answered
  // from it.
  const bool is_superseded = has_successor && parts_.registry->view().superseded();
  SetPhase(is_superseded ? Phase::kGone : Phase::kLeaving);
  parts_.shared->stopping.Notify();
  const bool is_well = !has_successor || predecessor_->AwaitServing();
  // Whoever asks for the name of a node that has registered here since waits until its connection is
  // passed on.
  parts_.shared->phases.AwaitAtRest(static_cast<uint32_t>(parts_.workers.size()), kPauseTimeout);
  if (has_successor) FaultPoint("predecessor:passing");
  TakeNew();
  if (has_successor) predecessor_->EndPassing();
  JoinWorkers(parts_);
  // Of a worker that came to rest too late; the store has it for the next mapper.
  TakeNew();
  const size_t unstored = deposits_->StoreAll(SteadyNow() + Store::kTellTimeout);
  // A store that ends with this mapper would have had no use for them.
  if (unstored > 0 && (has_successor || parts_.store->outlives_mapper())) {
    Log(Severity::kWarning, "%d connections could not be stored for the next mapper", unstored);
  }
  // What is left to do is to close all that the successor has, too, and nobody waits for that.
  if (has_successor) GiveWay();
  return is_well;
}

MapperEnd Mapper::AwaitSuccession() {
  // systemd takes this process for the mapper until it has read who is. When that one has died before,
  // this end must not count as one that was asked for, for which nothing is started (epmd.service).
  if (!parts_.store->outlives_mapper()) return {};
  parts_.store->AwaitHeld();
  return {.exit_code = 1};
}

MapperEnd RunMapper(const Options& options, const std::vector<std::string>& arguments,
                    Inheritance inherited, absl::FunctionRef<void()> on_ready) {
  // It is larger than what a stack of 128 KiB has room for beside all that it calls.
  return std::make_unique<Mapper>(options, arguments, std::move(inherited))->Run(on_ready);
}

}  // namespace evermap
