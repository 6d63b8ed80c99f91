#include "daemon/mapper/startup.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/custody/choose_store.h"
#include "daemon/custody/words.h"
#include "daemon/host/cores.h"
#include "daemon/host/descriptor_limit.h"
#include "daemon/host/log.h"
#include "daemon/host/signal_descriptor.h"
#include "daemon/host/wake_fd.h"
#include "daemon/loop/create_loop.h"
#include "daemon/mapper/listeners.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/upgrade_record.h"
#include "daemon/process/watcher.h"
#include "daemon/serve/descriptor_budget.h"
#include "registry/directory.h"
#include "registry/reader.h"
#include "registry/request_file.h"
#include "registry/status.h"

namespace evermap {
namespace {

// How long a mapper that cannot start stays all the same, under systemd.
constexpr absl::Duration kFailurePause = absl::Seconds(1);

// Workers of a mapper that is not told how many. One core makes some 70,000 lookups a second, and
// from 10 to 16 cores on all wait for the lock of the listening socket (bench/RESULTS.md).
constexpr uint32_t kWorkersByItselfMax = 16;
static_assert(kWorkersByItselfMax <= kWorkersMax);

uint32_t WorkerCount(const Options& options) {
  return options.workers != 0
             ? options.workers
             : std::min(UsableCores(kCgroupRoot, "/proc/self/cgroup"), kWorkersByItselfMax);
}

}  // namespace

void JoinWorkers(Parts& parts) {
  for (Thread& thread : parts.threads) thread.Join();
  parts.threads.clear();
}

std::vector<int> ReadySets(const Parts& parts) {
  std::vector<int> sets;
  for (const std::unique_ptr<Worker>& worker : parts.workers) {
    sets.push_back(worker->loop().ready_set());
  }
  return sets;
}

Startup::Startup(Configuration& configuration, Inheritance inherited, Parts& parts)
    : configuration_(configuration),
      options_(configuration.options()),
      inherited_(std::move(inherited)),
      parts_(parts),
      was_started_by_keeper_(inherited_.keeper.valid()) {}

absl::Status Startup::Prepare() {
  if (inherited_.predecessor.valid()) {
    parts_.successor.emplace(std::move(inherited_.predecessor));
  }
  parts_.descriptors_max = RaiseDescriptorLimit();
  // A keeper has a link for connections with its first mapper, too, but no files from an earlier
  // one.
  const bool has_earlier = !inherited_.files.empty() || !inherited_.connections.empty();
  // First of all: a predecessor takes a program that fails before for one that knows of no files.
  if (absl::Status status = ReceiveFiles(); !status.ok()) return status;
  if (absl::Status status = configuration_.Settle(has_earlier); !status.ok()) {
    return IsServedAlready() ? absl::AlreadyExistsError(status.message()) : status;
  }
  if (absl::Status status = TakeListeners(); !status.ok()) return status;
  ChosenStore chosen = ChooseStore(std::move(inherited_.keeper), options_.daemon);
  parts_.store = std::move(chosen.store);
  parts_.keeper = chosen.keeper;
  bool is_opened_later = false;
  if (parts_.successor.has_value()) {
    // The predecessor still writes to the registry: it is copied when it is at rest.
    const absl::StatusOr<bool> must_be_at_rest = MustBeAtRest();
    if (!must_be_at_rest.ok()) return must_be_at_rest.status();
    is_opened_later = *must_be_at_rest;
  }
  if (!is_opened_later) {
    if (absl::Status status = OpenRegistry(); !status.ok()) return status;
  }
  FaultPoint("mapper:starting");
  if (absl::Status status = MakeWakeFds(); !status.ok()) return status;
  return MakeLoops();
}

bool Startup::IsServedAlready() const {
  return inherited_.listeners.empty() && !options_.systemd &&
         absl::IsAlreadyExists(BindListeners(options_).status());
}

absl::Status Startup::TakeListeners() {
  parts_.listeners_are_inherited = !inherited_.listeners.empty();
  if (parts_.listeners_are_inherited) {
    if (inherited_.listeners.size() > kListenersMax) {
      return absl::FailedPreconditionError(absl::StrCat(
          "systemd passed ", inherited_.listeners.size(), " sockets, more than ", kListenersMax));
    }
    parts_.sockets = std::exchange(inherited_.listeners, {});
  } else {
    if (options_.systemd) {
      return absl::FailedPreconditionError(
          "-systemd was given, but systemd passed no sockets; start this through epmd.socket, or "
          "without -systemd");
    }
    absl::StatusOr<std::vector<OwnedFd>> bound = BindListeners(options_);
    if (!bound.ok()) return bound.status();
    parts_.sockets = *std::move(bound);
  }
  for (const OwnedFd& socket : parts_.sockets) parts_.listeners.push_back(socket.get());
  if (parts_.listeners_are_inherited) configuration_.CheckInherited(parts_.listeners);
  return absl::OkStatus();
}

std::string Startup::RegistryPath() const {
  return options_.registry_path.empty() ? DefaultRegistryPath(options_.port)
                                        : options_.registry_path;
}

Claim::Options Startup::ClaimOptions(std::string path) const {
  return {
      .path = std::move(path),
      .capacity = options_.capacity,
      .port = options_.port,
      .has_predecessor = parts_.successor.has_value(),
      .predecessor_lives =
          [this] { return parts_.successor.has_value() && parts_.successor->PredecessorLives(); },
      // A path that was named means this very registry. The usual one may be another's.
      .takes_foreign = !options_.registry_path.empty()};
}

absl::Status Startup::ReceiveFiles() {
  if (!parts_.successor.has_value() || !inherited_.predecessor_offers_files) {
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<OwnedFd>> files = parts_.successor->ReceiveFiles();
  if (!files.ok()) return files.status();
  inherited_.files = *std::move(files);
  return absl::OkStatus();
}

absl::StatusOr<bool> Startup::MustBeAtRest() const {
  return Claim::MustBeAtRest(ClaimOptions(RegistryPath()), inherited_.files);
}

absl::Status Startup::OpenRegistry() {
  absl::StatusOr<std::unique_ptr<Claim>> claim =
      options_.registry_path.empty()
          ? ClaimUsual()
          : Claim::Make(ClaimOptions(RegistryPath()), std::exchange(inherited_.files, {}));
  if (!claim.ok()) return claim.status();
  parts_.claim = *std::move(claim);
  parts_.registry = &parts_.claim->registry();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Claim>> Startup::ClaimUsual() {
  std::vector<OwnedFd> files = std::exchange(inherited_.files, {});
  const std::string path = RegistryPath();
  const absl::Status made = MakeRegistryDirectory(path);
  // What was handed over is served from wherever it lies.
  const bool has_files = !files.empty();
  absl::StatusOr<std::unique_ptr<Claim>> claim =
      made.ok() || has_files ? Claim::Make(ClaimOptions(path), std::move(files))
                             : absl::StatusOr<std::unique_ptr<Claim>>(made);
  if (absl::IsAborted(claim.status())) {
    // Another network namespace has the usual path, so this one has a path of its own.
    const std::string own_path = NamespaceRegistryPath(options_.port);
    if (own_path == path) return claim;
    Log(Severity::kNotice, "%s", claim.status().message());
    claim = Claim::Make(ClaimOptions(own_path), {});
  }
  // Nobody keeps a mapper from serving by what he does to the usual place.
  const bool has_place = made.ok() && !absl::IsResourceExhausted(claim.status());
  if (has_place || has_files) return claim;
  Log(Severity::kWarning, "%s; the registry has no file, and epmdctl does not find it",
      claim.status().message());
  return Claim::MakeUnnamed(ClaimOptions(path));
}

absl::Status Startup::MakeWakeFds() {
  parts_.signal_fd = SignalDescriptor({SIGTERM, SIGINT, SIGHUP, kRequestSignal});
  parts_.stop_fd = MakeWakeFd();
  parts_.custody_fd = MakeWakeFd();
  parts_.disputes_fd = MakeWakeFd();
  if (parts_.signal_fd.valid() && parts_.stop_fd.valid() && parts_.custody_fd.valid() &&
      parts_.disputes_fd.valid()) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "no descriptor for signals");
}

absl::Status Startup::MakeLoops() {
  const uint32_t count = WorkerCount(options_);
  absl::StatusOr<ChosenLoops> chosen =
      ChooseLoops(options_.loop, count,
                  {.connections_max = parts_.descriptors_max, .shares_listeners = count > 1});
  if (!chosen.ok()) return chosen.status();
  parts_.loops = std::move(chosen->loops);
  parts_.loop_reason = std::move(chosen->reason);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<OwnedFd>> Startup::TakeOver() {
  parts_.connections_link = std::move(inherited_.connections_link);
  if (!parts_.successor.has_value()) return std::exchange(inherited_.connections, {});
  // To end the watcher takes a moment, and here nobody waits yet.
  EndWatcher(inherited_.watcher);
  absl::StatusOr<std::vector<OwnedFd>> connections = parts_.successor->ReceiveConnections();
  if (!connections.ok()) return connections;
  if (parts_.registry == nullptr) {
    if (absl::Status status = OpenRegistry(); !status.ok()) return status;
  }
  FaultPoint("successor:migrated");
  return connections;
}

absl::Status Startup::MakeWorkers(size_t handed_over, void (*request_stop)(std::string_view)) {
  assert(parts_.registry != nullptr && !parts_.loops.empty());
  // The lowest free number says how many descriptors are in use, and those of connections that were
  // handed over count as nodes. It says too few when a number below was left free at the start,
  // which neither process/launch.h nor systemd does.
  const uint32_t limit = parts_.descriptors_max;
  const OwnedFd lowest_free(dup(parts_.stop_fd.get()));
  const size_t numbers =
      lowest_free.valid() ? static_cast<size_t>(lowest_free.get()) : limit + handed_over;
  const auto in_use = static_cast<uint32_t>(numbers - std::min(numbers, handed_over));
  if (in_use + kDescriptorsForRequests >= limit) {
    return absl::FailedPreconditionError(
        absl::StrCat("the limit of ", limit,
                     " open files leaves none for nodes; raise it (ulimit -n, LimitNOFILE=) "
                     "or use fewer -workers"));
  }
  parts_.custody.emplace(parts_.registry->view().capacity(),
                         limit - in_use - kDescriptorsForRequests, parts_.custody_fd.get());
  parts_.shared.emplace(configuration_.serve_options(), *parts_.registry, *parts_.custody,
                        parts_.sources, configuration_.reservations(), parts_.listeners, limit,
                        request_stop);
  parts_.shared->disputes.SetWakeFd(parts_.disputes_fd.get());
  for (std::unique_ptr<Loop>& loop : std::exchange(parts_.loops, {})) {
    parts_.workers.push_back(std::make_unique<Worker>(static_cast<uint32_t>(parts_.workers.size()),
                                                      std::move(loop), *parts_.shared));
  }
  return StartThreads();
}

absl::Status Startup::StartThreads() {
  std::vector<std::unique_ptr<Worker>>& workers = parts_.workers;
  for (const std::unique_ptr<Worker>& worker : workers) {
    absl::StatusOr<Thread> thread = Thread::Start("epmd-worker", [&one = *worker] { one.Serve(); });
    if (thread.ok()) {
      parts_.threads.push_back(*std::move(thread));
      continue;
    }
    if (parts_.threads.empty()) return thread.status();
    Log(Severity::kWarning, "serves with %d instead of %d workers: %s", parts_.threads.size(),
        workers.size(), thread.status().message());
    workers.resize(parts_.threads.size());
    break;
  }
  for (const std::unique_ptr<Worker>& worker : workers) {
    parts_.shared->loops.push_back(&worker->loop());
  }
  return absl::OkStatus();
}

absl::Status Startup::Commit() {
  if (parts_.successor.has_value()) return parts_.successor->Commit();
  // A store that has passed them has them.
  if (!parts_.store->holds() || parts_.listeners_are_inherited) return absl::OkStatus();
  for (const OwnedFd& socket : parts_.sockets) {
    OwnedFd duplicate(fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!duplicate.valid()) return absl::ErrnoToStatus(errno, "no descriptor for the store");
    parts_.store->Put(std::move(duplicate));
  }
  return absl::OkStatus();
}

absl::Status Startup::Announce() {
  // A keeper whose earlier mapper has died meanwhile starts another one.
  if (!parts_.store->AnnounceMapper()) {
    return absl::AbortedError("the keeper starts another mapper");
  }
  // Before any registration: the store has the registry before it has a connection. Where it has it
  // already, as in most upgrades, nobody waits for a store that is busy.
  const Claim& claim = *parts_.claim;
  const bool is_told = parts_.store->HoldFiles(claim.files(), claim.outdated());
  if (!is_told || !(claim.was_handed_over() || parts_.store->AwaitHeld())) {
    Log(Severity::kWarning,
        "the registry cannot be stored for the next mapper, which has to find it by its path");
  }
  parts_.store->HoldReadySets(ReadySets(parts_));
  if (parts_.successor.has_value()) FaultPoint("successor:told");
  return absl::OkStatus();
}

void Startup::Record() {
  const auto workers = static_cast<uint32_t>(parts_.workers.size());
  std::string problem;
  parts_.activity = Activity::Make(parts_.registry->path(), workers, options_.expected, problem);
  // Where the registry has no file, that was said, and tools see nothing anyway.
  if (parts_.activity == nullptr && access(parts_.registry->path().c_str(), F_OK) == 0) {
    Log(Severity::kWarning,
        "tools are not told who asks, what happened in the last minute, and who is expected: %s",
        problem);
  }
  parts_.shared->activity = parts_.activity.get();
  const std::string& reason = parts_.loop_reason;
  parts_.registry->SetMapperStatus({.pid = static_cast<uint32_t>(getpid()),
                                    .start_ticks = ProcessStartTicks(getpid()),
                                    .started_unix_ns = absl::ToUnixNanos(absl::Now()),
                                    .workers = workers,
                                    .version = EVERMAP_VERSION,
                                    .loop = reason.substr(0, reason.find(',')),
                                    .custody = std::string(parts_.store->name()),
                                    .descriptors_max = parts_.descriptors_max});
  if (parts_.successor.has_value()) {
    RecordUpgradeSucceeded(*parts_.registry);
  } else {
    RecordUpgradeInterrupted(*parts_.registry);
  }
}

int Startup::Fail(const absl::Status& error) {
  assert(!error.ok());
  if (parts_.shared.has_value()) parts_.shared->phases.Set(Phase::kGone);
  JoinWorkers(parts_);
  SlowDownSystemd();
  if (absl::IsAlreadyExists(error)) {
    // `erl` starts a mapper without asking whether there is one, and relies on this.
    Log(Severity::kRegistrations, "%s", error.message());
    return 0;
  }
  Log(Severity::kError, "%s", error.message());
  if (!parts_.successor.has_value()) return 1;
  if (parts_.registry != nullptr) {
    const absl::Status given_back = parts_.registry->RollBackOwnMigration();
    if (!given_back.ok()) Log(Severity::kError, "%s", given_back.message());
  }
  parts_.successor->SayFailure({error.message().data(), error.message().size()});
  return 1;
}

// systemd starts a mapper that cannot start again at once, and for ever (epmd.service).
void Startup::SlowDownSystemd() const {
  const bool is_its_main_process = getenv(variables::kNotifySocket) != nullptr &&
                                   !options_.daemon && !parts_.successor.has_value() &&
                                   !was_started_by_keeper_;
  if (is_its_main_process) absl::SleepFor(kFailurePause);
}

}  // namespace evermap
