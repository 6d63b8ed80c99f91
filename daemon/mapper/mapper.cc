#include "daemon/mapper/mapper.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/custody/custody.h"
#include "daemon/custody/deposit_queue.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/store.h"
#include "daemon/host/address.h"
#include "daemon/host/descriptor_limit.h"
#include "daemon/host/log.h"
#include "daemon/host/sock_diag.h"
#include "daemon/loop/loop.h"
#include "daemon/mapper/listeners.h"
#include "daemon/names/orphans.h"
#include "daemon/names/reservations.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/launch.h"
#include "daemon/process/upgrade.h"
#include "daemon/serve/descriptor_budget.h"
#include "daemon/serve/shared.h"
#include "daemon/serve/worker.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/registry.h"
#include "registry/status.h"

namespace evermap {
namespace {

// How long new registrations gather until they are looked at, and up to two ticks of MonotonicCoarseMs()
// more: a client that registers in a loop is gone by then, and of many that come at once the store
// gets kStoreDuplicatesMax in a message.
constexpr int64_t kGatherMs = 2;
// At most this many duplicates of connections wait for the store at a time. Their descriptors are
// among those that are kept for requests.
constexpr size_t kStoreDuplicatesMax = kDescriptorsForRequests / 2;
static_assert(kStoreDuplicatesMax <= kNotifyFdsMax);
// How long a store that cannot take more is left alone, and one that is gone before it is replaced
// or tried again.
constexpr int64_t kStorePauseMs = 50;
constexpr int64_t kStoreGonePauseMs = 1000;
// How long a mapper with sockets of an earlier one looks for what that one, which may still be
// about to end, has left undone; and how long again when it has ended.
constexpr int64_t kEarlierMapperMs = 60'000;
// How often it looks whether connections wait in vain: first after a short pause, which then
// doubles up to the long one.
constexpr int64_t kAcceptCheckPauseMinMs = 10;
constexpr int64_t kAcceptCheckPauseMaxMs = 1'000;
// How often it looks for registrations that nobody watches, and how long one has none who does.
constexpr int64_t kUnwatchedCheckMs = 1'000;
// How long a mapper that leaves waits for the end of one that has begun to leave before it.
constexpr int64_t kPredecessorEndMs = 5'000;
// How long the main thread pauses when the kernel has no memory for poll(2).
constexpr absl::Duration kMemoryPause = absl::Milliseconds(10);
// How long a mapper that cannot start stays all the same, under systemd.
constexpr absl::Duration kFailurePause = absl::Seconds(1);
// How often listening sockets that were not found at once are looked for among all.
constexpr int64_t kSearchIntervalMs = 1000;
// Whose a node is, only people ask, and to find it out costs 4 us: it is done for nodes that stay,
// and not while many come at once.
constexpr int64_t kOwnerDelayMs = 1000;
constexpr int kOwnersPerTurn = 64;
// Of more that come in that time it stays unknown.
constexpr size_t kUnknownOwnersMax = 65536;

// Wakes the main thread for a stop. Of the process, since there is one mapper in it.
int g_stop_fd = -1;

void RequestStop(std::string_view reason) {
  Log(Severity::kNotice, "ends: %s", reason);
  const uint64_t one = 1;
  // Fails only when the counter is full: then the stop is on its way.
  [[maybe_unused]] const ssize_t written = write(g_stop_fd, &one, sizeof(one));
}

void Empty(int event_fd) {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(event_fd, &count, sizeof(count));
}

uint32_t WorkerCount(const Options& options) {
  if (options.workers != 0) return options.workers;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  // Fails on hosts with more cores than a cpu_set_t has bits.
  const int count = sched_getaffinity(0, sizeof(cores), &cores) == 0
                        ? CPU_COUNT(&cores)
                        : static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp<uint32_t>(static_cast<uint32_t>(count), 1, kWorkersMax);
}

absl::StatusOr<std::vector<std::unique_ptr<Loop>>> CreateLoops(LoopKind kind, uint32_t count,
                                                               const Loop::Options& options) {
  std::vector<std::unique_ptr<Loop>> loops;
  for (uint32_t i = 0; i < count; ++i) {
    absl::StatusOr<std::unique_ptr<Loop>> loop = Loop::Create(kind, options);
    if (!loop.ok()) return loop.status();
    loops.push_back(*std::move(loop));
  }
  return loops;
}

absl::StatusOr<std::vector<std::unique_ptr<Loop>>> ChooseLoops(LoopChoice choice, uint32_t count,
                                                               const Loop::Options& options,
                                                               std::string& reason) {
  if (choice == LoopChoice::kEpoll) {
    reason = "epoll, as asked for";
    return CreateLoops(LoopKind::kEpoll, count, options);
  }
  auto loops = CreateLoops(LoopKind::kIoUring, count, options);
  if (loops.ok()) {
    reason = choice == LoopChoice::kIoUring ? "io_uring, as asked for" : "io_uring";
    return loops;
  }
  if (choice == LoopChoice::kIoUring) {
    return absl::FailedPreconditionError(absl::StrCat("-loop io_uring: ", loops.status().message(),
                                                      "; allow it, or use -loop auto"));
  }
  reason = absl::StrCat("epoll, because ", loops.status().message());
  return CreateLoops(LoopKind::kEpoll, count, options);
}

std::string RegistryPath(const Options& options) {
  return options.registry_path.empty() ? DefaultRegistryPath(options.port) : options.registry_path;
}

OwnedFd SignalDescriptor() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  // Before threads start, so that all have them blocked.
  if (pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) return OwnedFd();
  signal(SIGPIPE, SIG_IGN);
  return OwnedFd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
}

// The registration that a connection keeps alive.
struct Place {
  uint32_t slot;
  uint64_t id;
  bool is_orphaned = false;
  bool has_owner = true;
  bool has_listener = true;
};
using Places = absl::flat_hash_map<uint64_t, Place>;  // by SO_COOKIE

class Mapper final : private Upgrade::Host {
 public:
  Mapper(const Options& options, const std::vector<std::string>& arguments, Inheritance inherited)
      : options_(options), arguments_(arguments), inherited_(std::move(inherited)) {}
  ~Mapper() = default;
  Mapper(const Mapper&) = delete;
  Mapper& operator=(const Mapper&) = delete;

  int Run(absl::FunctionRef<void()> on_ready) {
    const absl::Status started = Start(on_ready);
    if (!started.ok()) SlowDownSystemd();
    if (absl::IsAlreadyExists(started)) {
      // What `erl` relies on: whoever starts a second mapper has one.
      Log(Severity::kRegistrations, "%s", started.message());
      return 0;
    }
    if (!started.ok()) {
      Log(Severity::kError, "%s", started.message());
      if (succession_.has_value()) {
        GiveBackRegistry();
        succession_->SayFailure({started.message().data(), started.message().size()});
      }
      return 1;
    }
    Serve();
    return Leave() ? 0 : 1;
  }

 private:
  absl::Status Start(absl::FunctionRef<void()> on_ready);
  // A mapper that cannot start is tried again by systemd at once, and for ever (epmd.service).
  void SlowDownSystemd() const;
  absl::Status ReadReservations();
  absl::Status TakeListeners();
  void ChooseStore();
  absl::Status OpenRegistry(bool is_prepared_only);
  // Of a successor that does not come to serve.
  void GiveBackRegistry();
  absl::Status MakeCustody(size_t handed_over);
  void MakeWorkers();
  // Gives the connections to the workers; what has none becomes an orphan.
  void TakeConnections(std::vector<OwnedFd> connections);
  void TakeConnection(OwnedFd connection, const Places& places);
  Places FindPlaces();
  // What has no connection here becomes an orphan. True when it was none.
  bool OrphanUnwatched(const Place& place);
  void CountOrphaned(uint32_t count);
  void RecordStatus();

  // The main thread, while the workers serve. Returns when the mapper is to leave.
  void Serve();
  int TimeoutMs() const;
  // False when the mapper is to end.
  bool OnSignal();
  void OnStoreLink(short events);
  void OnTimers();
  // Plans the two checks below.
  void LookAfterEarlier();
  // An earlier mapper's ring waits for connections until the kernel has taken it apart, which may
  // be some time after its process has died. A connection for which the kernel woke that one waits
  // until somebody looks.
  void CheckAccepting(int64_t now_ms);
  // An earlier mapper that registers a node while it leaves, and dies before it has passed it on,
  // leaves a registration of which nobody sees the end.
  void CheckUnwatched(int64_t now_ms);
  // False when nobody serves after this mapper that should.
  bool Leave();
  // The predecessor still leaves: what it passes on goes on to the successor.
  void PassLate();

  // Passes what the workers have registered to the store, and finds out where the nodes listen.
  void StoreNew();
  // A duplicate of the connection of found_; invalid as Custody::Duplicate() says.
  OwnedFd DuplicateFound();
  StoreQueue::Outcome StoreConnection(uint32_t slot, uint64_t id);
  // Stores what the queue lets pass now, if anything.
  void StoreDue();
  // Stores all, at the end.
  void StoreAll();
  void FlushStore();
  void FindListener(const Registration& node);
  void FindListenersAmongAll();
  // Whose a node is, is asked for a moment later.
  void PlanOwner(uint32_t slot, uint64_t id);
  void FindOwners(int64_t now_ms);
  void ReplaceKeeper();

  bool PauseWorkers() override;
  void ResumeWorkers() override { SetPhase(Phase::kServing); }
  void SetPhase(Phase phase) {
    shared_->phases.Set(phase);
    for (const std::unique_ptr<Worker>& worker : workers_) worker->Wake();
  }

  const Options& options_;
  const std::vector<std::string>& arguments_;
  Inheritance inherited_;

  std::vector<OwnedFd> sockets_;
  std::vector<int> listeners_;
  OwnedFd signal_fd_;
  OwnedFd stop_fd_;
  OwnedFd custody_fd_;  // an eventfd: there are new connections in custody
  uint32_t descriptors_max_ = 0;
  uint32_t worker_count_ = 0;
  std::string loop_reason_;
  std::vector<std::unique_ptr<Loop>> loops_;
  Store store_;
  StoreQueue store_queue_{StoreQueue::kKeeperPace};
  LogLimiter log_late_;
  bool store_is_gone_ = false;
  bool is_leaving_ = false;
  std::unique_ptr<Registry> registry_;
  std::optional<Custody> custody_;
  std::optional<Orphans> orphans_;
  SourceLimit sources_;
  Reservations reservations_;
  std::optional<Shared> shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  size_t next_worker_ = 0;
  std::optional<Succession> succession_;
  std::optional<Upgrade> upgrade_;
  bool is_succeeded_ = false;  // another mapper has taken over

  SocketQuery socket_query_;
  std::vector<Place> unknown_listeners_;
  struct UnknownOwner {
    uint32_t slot;
    uint64_t id;
    int64_t due_ms;
  };
  std::deque<UnknownOwner> unknown_owners_;  // by due_ms
  int64_t search_ms_ = 0;
  int64_t judge_ms_ = 0;
  int64_t accept_check_ms_ = -1;  // these: MonotonicCoarseMs(); -1: not planned
  int64_t accept_pause_ms_ = kAcceptCheckPauseMinMs;
  int64_t unwatched_check_ms_ = -1;
  int64_t earlier_until_ms_ = 0;
  std::vector<Place> unwatched_;  // at the last check
  int64_t gather_ms_ = -1;
  int64_t flush_ms_ = -1;
  int64_t keeper_ms_ = -1;  // when to start the next keeper
  int64_t keeper_started_ms_ = -kStoreGonePauseMs;
  Registration found_ = {};
};

absl::Status Mapper::Start(absl::FunctionRef<void()> on_ready) {
  if (inherited_.predecessor.valid()) succession_.emplace(std::move(inherited_.predecessor));
  descriptors_max_ = RaiseDescriptorLimit();
  if (absl::Status status = ReadReservations(); !status.ok()) return status;
  if (absl::Status status = TakeListeners(); !status.ok()) return status;
  ChooseStore();
  // A successor finds out whether it could; the rest comes when the registry is at rest.
  if (absl::Status status = OpenRegistry(succession_.has_value()); !status.ok()) return status;
  FaultPoint("mapper:starting");
  signal_fd_ = SignalDescriptor();
  stop_fd_ = OwnedFd(eventfd(0, EFD_CLOEXEC));
  custody_fd_ = OwnedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!signal_fd_.valid() || !stop_fd_.valid() || !custody_fd_.valid()) {
    return absl::ErrnoToStatus(errno, "no descriptor for signals");
  }
  g_stop_fd = stop_fd_.get();
  worker_count_ = WorkerCount(options_);
  auto loops = ChooseLoops(
      options_.loop, worker_count_,
      {.connections_max = descriptors_max_, .shares_listeners = worker_count_ > 1}, loop_reason_);
  if (!loops.ok()) return loops.status();
  loops_ = *std::move(loops);

  std::vector<OwnedFd> connections = std::move(inherited_.connections);
  if (succession_.has_value()) {
    // Here, because it takes a moment, and nobody waits yet.
    EndWatcher(inherited_.watcher);
    absl::StatusOr<std::vector<OwnedFd>> handed_over = succession_->TakeOver();
    if (!handed_over.ok()) return handed_over.status();
    connections = *std::move(handed_over);
    if (absl::Status status = OpenRegistry(false); !status.ok()) return status;
    FaultPoint("successor:migrated");
  }
  if (absl::Status status = MakeCustody(connections.size()); !status.ok()) return status;
  MakeWorkers();
  TakeConnections(std::move(connections));
  if (succession_.has_value()) {
    if (absl::Status status = succession_->Commit(); !status.ok()) return status;
  } else if (store_.kind() != Store::Kind::kNone && inherited_.listeners.empty()) {
    for (const OwnedFd& socket : sockets_) {
      OwnedFd duplicate(fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
      if (!duplicate.valid()) return absl::ErrnoToStatus(errno, "no descriptor for the store");
      store_.Put(std::move(duplicate));
    }
    FlushStore();
  }
  // Whom to look after. A keeper whose mapper has died meanwhile starts another one.
  if (!store_.TakeOver()) return absl::AbortedError("the keeper starts another mapper");
  if (succession_.has_value()) FaultPoint("successor:told");
  // From here on the registry knows what one before a migration does not.
  registry_->ForgetPrevious();
  // The sockets listen: whoever connects from here on is served.
  on_ready();
  RecordStatus();
  Log(Severity::kNotice, "serves port %d with %d workers through %s; registry %s", options_.port,
      workers_.size(), loop_reason_, registry_->path());
  for (const std::unique_ptr<Worker>& worker : workers_) {
    threads_.emplace_back([&worker] { worker->Serve(); });
  }
  if (succession_.has_value()) succession_->SayServing();
  return absl::OkStatus();
}

void Mapper::SlowDownSystemd() const {
  const bool is_its_main_process = getenv("NOTIFY_SOCKET") != nullptr && !options_.daemon &&
                                   !succession_.has_value() && !inherited_.keeper.valid() &&
                                   store_.kind() != Store::Kind::kKeeper;
  if (is_its_main_process) absl::SleepFor(kFailurePause);
}

absl::Status Mapper::ReadReservations() {
  absl::Status status = reservations_.Read(options_.reservations);
  // Nodes that were registered when the mapper before died are not to be lost for it.
  if (status.ok() || inherited_.connections.empty()) return status;
  Log(Severity::kError, "%s; the name is refused to all until the mapper is restarted",
      status.message());
  return absl::OkStatus();
}

absl::Status Mapper::TakeListeners() {
  if (inherited_.listeners.empty()) {
    if (options_.systemd) {
      return absl::FailedPreconditionError(
          "-systemd was given, but systemd passed no sockets; start this through epmd.socket, or "
          "without -systemd");
    }
    absl::StatusOr<std::vector<OwnedFd>> bound = BindListeners(options_);
    if (!bound.ok()) return bound.status();
    sockets_ = *std::move(bound);
  } else {
    if (inherited_.listeners.size() > kListenersMax) {
      return absl::FailedPreconditionError(absl::StrCat(
          "systemd passed ", inherited_.listeners.size(), " sockets, more than ", kListenersMax));
    }
    for (OwnedFd& socket : inherited_.listeners) sockets_.push_back(std::move(socket));
    LookAfterEarlier();
  }
  for (const OwnedFd& socket : sockets_) listeners_.push_back(socket.get());
  return absl::OkStatus();
}

void Mapper::ChooseStore() {
  if (inherited_.keeper.valid()) {
    store_ = Store(Store::Kind::kKeeper, std::move(inherited_.keeper));
    return;
  }
  const char* address = getenv("NOTIFY_SOCKET");
  if (address == nullptr || options_.daemon) return;
  absl::StatusOr<OwnedFd> link = ConnectToNotifySocket(address);
  if (link.ok()) {
    store_ = Store(Store::Kind::kSystemd, *std::move(link));
    store_queue_ = StoreQueue(StoreQueue::kSystemdPace);
  } else {
    Log(Severity::kWarning, "connections are not kept over a crash: %s", link.status().message());
  }
}

absl::Status Mapper::OpenRegistry(bool is_prepared_only) {
  if (registry_ != nullptr) return absl::OkStatus();
  Registry::Options options{.path = RegistryPath(options_), .capacity = options_.capacity};
  if (options_.registry_path.empty()) {
    if (absl::Status made = MakeRegistryDirectory(options.path); !made.ok()) return made;
  }
  if (is_prepared_only) {
    const absl::StatusOr<bool> needs_migration = Registry::NeedsMigration(options.path);
    if (!needs_migration.ok()) return needs_migration.status();
    if (*needs_migration) return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Registry>> registry = Registry::Open(options);
  if (!registry.ok()) return registry.status();
  registry_ = *std::move(registry);
  return absl::OkStatus();
}

void Mapper::GiveBackRegistry() {
  if (registry_ == nullptr) return;
  const absl::Status status = registry_->GiveBack();
  if (!status.ok()) Log(Severity::kError, "%s", status.message());
}

absl::Status Mapper::MakeCustody(size_t handed_over) {
  // The lowest free number tells how many are in use; connections handed over count as nodes. Where
  // a number below was left free at the start, which launch.h and systemd do not do, it is too few.
  const OwnedFd lowest_free(dup(stop_fd_.get()));
  const size_t numbers =
      lowest_free.valid() ? static_cast<size_t>(lowest_free.get()) : descriptors_max_ + handed_over;
  const auto in_use = static_cast<uint32_t>(numbers - std::min(numbers, handed_over));
  if (in_use + kDescriptorsForRequests >= descriptors_max_) {
    return absl::FailedPreconditionError(
        absl::StrCat("the limit of ", descriptors_max_,
                     " open files leaves none for nodes; raise it (ulimit -n, LimitNOFILE=) "
                     "or use fewer -workers"));
  }
  custody_.emplace(registry_->capacity(), descriptors_max_ - in_use - kDescriptorsForRequests,
                   custody_fd_.get());
  return absl::OkStatus();
}

void Mapper::MakeWorkers() {
  orphans_.emplace(*registry_, options_.orphan_grace);
  shared_.emplace(ServeOptions{.port = options_.port,
                               .packet_timeout = options_.packet_timeout,
                               .delay_accept = options_.delay_accept,
                               .delay_write = options_.delay_write,
                               .relaxed_command_check = options_.relaxed_command_check,
                               .allowed = options_.allowed},
                  *registry_, *custody_, sources_, reservations_, listeners_, descriptors_max_,
                  RequestStop);
  for (std::unique_ptr<Loop>& loop : loops_) {
    workers_.push_back(std::make_unique<Worker>(static_cast<uint32_t>(workers_.size()),
                                                std::move(loop), *shared_));
  }
  Upgrade::Host& host = *this;
  upgrade_.emplace(host, *registry_, *custody_, store_, listeners_, arguments_);
}

Places Mapper::FindPlaces() {
  Places places;
  registry_->ForEach([&](const Registration& node) {
    if (node.state == RegistrationState::kRemembered) return;
    places[node.connection_cookie] = {.slot = node.slot,
                                      .id = node.id,
                                      .is_orphaned = node.state == RegistrationState::kOrphaned,
                                      .has_owner = node.owner_uid != kUnknownUid,
                                      .has_listener = node.listener_cookie != 0};
  });
  return places;
}

void Mapper::TakeConnections(std::vector<OwnedFd> connections) {
  const Places places = FindPlaces();
  for (OwnedFd& connection : connections) TakeConnection(std::move(connection), places);
  uint32_t orphaned = 0;
  for (const auto& [cookie, place] : places) orphaned += OrphanUnwatched(place) ? 1 : 0;
  CountOrphaned(orphaned);
  orphans_->Judge();
}

bool Mapper::OrphanUnwatched(const Place& place) {
  if (custody_->DescriptorOf(place.slot) >= 0) return false;
  if (!place.is_orphaned && !registry_->Orphan(place.slot, place.id)) return false;
  orphans_->Add(place.slot, place.id);
  // The mapper before was ended before it had found that. A node of OTP 23 does not come back, and
  // lives all the same.
  if (!place.has_listener) unknown_listeners_.push_back(place);
  return !place.is_orphaned;
}

void Mapper::CountOrphaned(uint32_t count) {
  if (count == 0) return;
  registry_->statistics(0).orphaned.fetch_add(count, std::memory_order_relaxed);
  Log(Severity::kNotice,
      "%d nodes have lost their connection with an earlier mapper; they are found as long as they "
      "live",
      count);
}

void Mapper::TakeConnection(OwnedFd connection, const Places& places) {
  const uint64_t cookie = SocketCookie(connection.get());
  const auto found = cookie == 0 ? places.end() : places.find(cookie);
  if (found == places.end()) {
    // Of a registration that has ended; whoever holds it lets it go then.
    shutdown(connection.get(), SHUT_RDWR);
    return;
  }
  const Place& place = found->second;
  if (custody_->DescriptorOf(place.slot) >= 0) return;  // stored twice
  if (place.is_orphaned && !registry_->Adopt(place.slot, place.id, cookie)) return;
  custody_->HoldStored(place.slot, connection.get());
  if (!place.has_owner) PlanOwner(place.slot, place.id);
  workers_[next_worker_++ % workers_.size()]->Adopt(std::move(connection), {place.slot, place.id});
}

void Mapper::RecordStatus() {
  registry_->SetMapperStatus({.pid = static_cast<uint32_t>(getpid()),
                              .start_ticks = ProcessStartTicks(getpid()),
                              .started_unix_ns = absl::ToUnixNanos(absl::Now()),
                              .workers = static_cast<uint32_t>(workers_.size()),
                              .version = EVERMAP_VERSION,
                              .loop = loop_reason_.substr(0, loop_reason_.find(',')),
                              .custody = std::string(store_.name()),
                              .descriptors_max = descriptors_max_});
  UpgradeStatus upgrade = registry_->upgrade_status();
  if (!succession_.has_value()) {
    if (upgrade.outcome != UpgradeStatus::Outcome::kRunning) return;
    // Who would have said how it went is dead, and somebody may wait for it.
    upgrade.unix_ns = absl::ToUnixNanos(absl::Now());
    upgrade.outcome = UpgradeStatus::Outcome::kFailed;
    upgrade.text = absl::StrCat("a mapper died in the middle of it; process ", getpid(), " runs ",
                                OwnProgram(), ", version ", EVERMAP_VERSION, ", instead");
    registry_->SetUpgradeStatus(upgrade);
    return;
  }
  const absl::Duration took = absl::Now() - absl::FromUnixNanos(upgrade.unix_ns);
  upgrade.unix_ns = absl::ToUnixNanos(absl::Now());
  upgrade.outcome = UpgradeStatus::Outcome::kSucceeded;
  upgrade.text = absl::StrCat("process ", getpid(), " runs ", OwnProgram(), ", version ",
                              EVERMAP_VERSION, ", after ", absl::ToInt64Milliseconds(took), " ms");
  registry_->SetUpgradeStatus(upgrade);
  Log(Severity::kNotice, "upgrade: %s", upgrade.text);
}

int Mapper::TimeoutMs() const {
  int64_t wake_ms = -1;
  const auto wake_by = [&wake_ms](int64_t deadline_ms) {
    if (deadline_ms >= 0 && (wake_ms < 0 || deadline_ms < wake_ms)) wake_ms = deadline_ms;
  };
  wake_by(gather_ms_);
  wake_by(accept_check_ms_);
  wake_by(unwatched_check_ms_);
  wake_by(flush_ms_);
  wake_by(store_queue_.wake_ms());
  wake_by(keeper_ms_);
  if (orphans_->count() > 0) wake_by(judge_ms_);
  if (!unknown_listeners_.empty()) wake_by(search_ms_);
  if (!unknown_owners_.empty()) wake_by(unknown_owners_.front().due_ms);
  if (upgrade_->is_under_way()) wake_by(upgrade_->deadline_ms());
  if (wake_ms < 0) return -1;
  return static_cast<int>(std::max<int64_t>(wake_ms - MonotonicCoarseMs(), 0));
}

void Mapper::Serve() {
  enum { kSignals, kStop, kCustody, kStore, kUpgrade, kPredecessor, kPolled };
  std::array<pollfd, kPolled> polled;
  while (true) {
    polled[kSignals] = {signal_fd_.get(), POLLIN, 0};
    polled[kStop] = {stop_fd_.get(), POLLIN, 0};
    polled[kCustody] = {gather_ms_ < 0 ? custody_fd_.get() : -1, POLLIN, 0};
    // A keeper says nothing, but its end is noticed, once; of systemd there is nothing to notice.
    const bool has_keeper = store_.kind() == Store::Kind::kKeeper && keeper_ms_ < 0;
    polled[kStore] = {has_keeper ? store_.link() : -1, 0, 0};
    polled[kUpgrade] = {upgrade_->is_under_way() ? upgrade_->link() : -1, POLLIN, 0};
    polled[kPredecessor] = {succession_.has_value() ? succession_->link() : -1, POLLIN, 0};
    if (poll(polled.data(), polled.size(), TimeoutMs()) < 0) {
      if (errno == EINTR) continue;
      if (errno == ENOMEM || errno == EAGAIN) {
        absl::SleepFor(kMemoryPause);
        continue;
      }
      Log(Severity::kError, "cannot wait for signals: %s", ErrorText(errno));
      return;
    }
    if (polled[kStop].revents != 0 || (polled[kSignals].revents != 0 && !OnSignal())) {
      // Somebody wants an end of this mapper, not another one.
      if (upgrade_->is_under_way()) upgrade_->Cancel("the mapper was told to end");
      store_.Tell("STOPPING=1");
      return;
    }
    if (polled[kStore].revents != 0) OnStoreLink(polled[kStore].revents);
    if (polled[kCustody].revents != 0) gather_ms_ = MonotonicCoarseMs() + kGatherMs;
    if (polled[kPredecessor].revents != 0) {
      std::optional<Places> places;
      const bool is_there = succession_->TakeLate([&](OwnedFd connection) {
        if (!places.has_value()) places = FindPlaces();
        TakeConnection(std::move(connection), *places);
      });
      if (!is_there) {
        succession_.reset();
        LookAfterEarlier();
      }
    }
    const bool upgrade_is_due =
        upgrade_->is_under_way() &&
        (polled[kUpgrade].revents != 0 || MonotonicCoarseMs() >= upgrade_->deadline_ms());
    if (upgrade_is_due && upgrade_->Continue()) {
      is_succeeded_ = true;
      return;
    }
    OnTimers();
  }
}

bool Mapper::OnSignal() {
  signalfd_siginfo signal = {};
  while (read(signal_fd_.get(), &signal, sizeof(signal)) == sizeof(signal)) {
    if (signal.ssi_signo == SIGHUP) {
      if (keeper_ms_ >= 0) ReplaceKeeper();
      upgrade_->Begin();
      continue;
    }
    Log(Severity::kNotice, "ends: got signal %s", sigabbrev_np(static_cast<int>(signal.ssi_signo)));
    return false;
  }
  return true;
}

void Mapper::OnTimers() {
  const int64_t now_ms = MonotonicCoarseMs();
  if (store_queue_.IsDue(now_ms)) StoreDue();
  if (gather_ms_ >= 0 && now_ms >= gather_ms_) StoreNew();
  if (accept_check_ms_ >= 0 && now_ms >= accept_check_ms_) CheckAccepting(now_ms);
  if (unwatched_check_ms_ >= 0 && now_ms >= unwatched_check_ms_) CheckUnwatched(now_ms);
  if (flush_ms_ >= 0 && now_ms >= flush_ms_) FlushStore();
  if (keeper_ms_ >= 0 && now_ms >= keeper_ms_) ReplaceKeeper();
  if (orphans_->count() > 0 && now_ms >= judge_ms_) {
    orphans_->Judge();
    judge_ms_ = now_ms + kJudgeIntervalMs;
  }
  FindOwners(now_ms);
  if (!unknown_listeners_.empty() && now_ms >= search_ms_) {
    FindListenersAmongAll();
    search_ms_ = now_ms + kSearchIntervalMs;
  }
}

void Mapper::LookAfterEarlier() {
  const int64_t now_ms = MonotonicCoarseMs();
  earlier_until_ms_ = now_ms + kEarlierMapperMs;
  accept_pause_ms_ = kAcceptCheckPauseMinMs;
  accept_check_ms_ = now_ms + accept_pause_ms_;
  // A predecessor passes on what it has; when it has ended, this is called again.
  unwatched_check_ms_ = succession_.has_value() ? -1 : now_ms + kUnwatchedCheckMs;
}

void Mapper::CheckAccepting(int64_t now_ms) {
  std::vector<pollfd> polled;
  for (const int listener : listeners_) polled.push_back({listener, POLLIN, 0});
  if (poll(polled.data(), polled.size(), 0) > 0) {
    for (const std::unique_ptr<Worker>& worker : workers_) worker->AcceptAnew();
  }
  accept_pause_ms_ = std::min(2 * accept_pause_ms_, kAcceptCheckPauseMaxMs);
  accept_check_ms_ = now_ms < earlier_until_ms_ ? now_ms + accept_pause_ms_ : -1;
}

void Mapper::CheckUnwatched(int64_t now_ms) {
  std::vector<Place> unwatched;
  registry_->ForEach([&](const Registration& node) {
    if (node.state != RegistrationState::kLive || custody_->DescriptorOf(node.slot) >= 0) return;
    unwatched.push_back(
        {.slot = node.slot, .id = node.id, .has_listener = node.listener_cookie != 0});
  });
  uint32_t orphaned = 0;
  for (const Place& place : unwatched) {
    // What was not seen before, a worker of this mapper may be about to take into custody.
    const bool is_seen_again =
        std::any_of(unwatched_.begin(), unwatched_.end(),
                    [&place](const Place& before) { return before.id == place.id; });
    if (is_seen_again && OrphanUnwatched(place)) ++orphaned;
  }
  CountOrphaned(orphaned);
  unwatched_ = std::move(unwatched);
  unwatched_check_ms_ = now_ms < earlier_until_ms_ ? now_ms + kUnwatchedCheckMs : -1;
}

void Mapper::StoreNew() {
  gather_ms_ = -1;
  Empty(custody_fd_.get());
  const int64_t now_ms = MonotonicCoarseMs();
  custody_->TakeNew([&](uint32_t slot) {
    if (!registry_->ReadSlot(slot, found_) || found_.state == RegistrationState::kRemembered) {
      return;
    }
    if (is_succeeded_) {
      const OwnedFd connection = DuplicateFound();
      if (connection.valid()) upgrade_->Pass(connection.get());
    }
    FindListener(found_);
    PlanOwner(slot, found_.id);
    if (store_.kind() != Store::Kind::kNone) store_queue_.Add(slot, found_.id, now_ms);
  });
  StoreDue();
}

OwnedFd Mapper::DuplicateFound() {
  OwnedFd connection = custody_->Duplicate(found_);
  if (connection.valid() || errno != EMFILE) return connection;
  // Those that wait for the store have a descriptor each.
  FlushStore();
  return custody_->Duplicate(found_);
}

StoreQueue::Outcome Mapper::StoreConnection(uint32_t slot, uint64_t id) {
  if (!registry_->ReadSlot(slot, found_) || found_.id != id ||
      found_.state == RegistrationState::kRemembered) {
    return StoreQueue::Outcome::kEnded;
  }
  if (store_.waiting().size() >= kStoreDuplicatesMax) FlushStore();
  if (store_.waiting().size() >= kStoreDuplicatesMax) return StoreQueue::Outcome::kLater;
  OwnedFd connection = DuplicateFound();
  if (!connection.valid()) {
    if (errno == EBADF) return StoreQueue::Outcome::kEnded;
    const int error = errno;
    LogLimited(log_late_, Severity::kWarning, "connections are stored late: %s%s", ErrorText(error),
               error == EMFILE ? "; raise the limit of open files (ulimit -n, LimitNOFILE=)" : "");
    return StoreQueue::Outcome::kLater;
  }
  registry_->statistics(0).stored.fetch_add(1, std::memory_order_relaxed);
  store_.Put(std::move(connection));
  return StoreQueue::Outcome::kStored;
}

void Mapper::StoreDue() {
  const int64_t now_ms = MonotonicCoarseMs();
  if (store_queue_.IsDue(now_ms)) {
    const size_t live = store_.kind() == Store::Kind::kSystemd ? registry_->live_count() : 0;
    store_queue_.Store(now_ms, live - std::min(live, store_queue_.size()),
                       [this](uint32_t slot, uint64_t id) { return StoreConnection(slot, id); });
  }
  FlushStore();
}

void Mapper::FlushStore() {
  flush_ms_ = -1;
  const bool is_gone = !store_.Flush();
  if (is_gone) {
    // Who leaves starts no keeper.
    if (store_.kind() == Store::Kind::kKeeper && !is_leaving_) OnStoreLink(POLLERR);
    if (store_.kind() == Store::Kind::kSystemd && !store_is_gone_) {
      Log(Severity::kWarning,
          "systemd does not take connections (NOTIFY_SOCKET); those that it does not have are lost "
          "if the mapper dies");
    }
  }
  store_is_gone_ = is_gone;
  if (!store_.waiting().empty()) {
    flush_ms_ = MonotonicCoarseMs() + (is_gone ? kStoreGonePauseMs : kStorePauseMs);
  }
}

void Mapper::FindListener(const Registration& node) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  const int fd = custody_->DescriptorOf(node.slot);
  uint64_t cookie = 0;
  if (fd >= 0 && getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0) {
    cookie = socket_query_.ListenerCookie(peer, node.port);
  }
  if (cookie != 0) {
    registry_->Amend(node.slot, node.id, {.listener_cookie = cookie});
  } else {
    unknown_listeners_.push_back({.slot = node.slot, .id = node.id});
  }
}

void Mapper::PlanOwner(uint32_t slot, uint64_t id) {
  if (unknown_owners_.size() >= kUnknownOwnersMax) return;
  unknown_owners_.push_back({slot, id, MonotonicCoarseMs() + kOwnerDelayMs});
}

void Mapper::FindOwners(int64_t now_ms) {
  for (int i = 0; i < kOwnersPerTurn; ++i) {
    if (unknown_owners_.empty() || unknown_owners_.front().due_ms > now_ms) return;
    const UnknownOwner node = unknown_owners_.front();
    unknown_owners_.pop_front();
    const int fd = custody_->DescriptorOf(node.slot);
    // Nothing is amended when the registration has ended, and so before the number of its
    // descriptor may have been another connection's.
    if (fd >= 0) registry_->Amend(node.slot, node.id, {.owner_uid = socket_query_.PeerUid(fd)});
  }
}

// A node may listen on one address and register through another.
void Mapper::FindListenersAmongAll() {
  const absl::StatusOr<Listeners> listeners = ReadListeners();
  for (const Place& place : std::exchange(unknown_listeners_, {})) {
    if (!listeners.ok() || !registry_->ReadSlot(place.slot, found_) || found_.id != place.id) {
      continue;
    }
    const uint64_t cookie = listeners->CookieOf(found_.port);
    if (cookie != 0) registry_->Amend(place.slot, place.id, {.listener_cookie = cookie});
  }
}

void Mapper::OnStoreLink(short events) {
  if ((events & (POLLHUP | POLLERR)) == 0 || keeper_ms_ >= 0) return;
  Log(Severity::kError, "the keeper has died; another one is started");
  // The successor has the link to the old one.
  if (upgrade_->is_under_way()) upgrade_->Cancel("the keeper has died meanwhile");
  keeper_ms_ = std::max(MonotonicCoarseMs(), keeper_started_ms_ + kStoreGonePauseMs);
}

// This mapper starts a keeper for itself, and has it hold everything anew.
void Mapper::ReplaceKeeper() {
  // It would follow this mapper, and the successor start another.
  if (upgrade_->is_under_way()) upgrade_->Cancel("the keeper has died meanwhile");
  keeper_started_ms_ = MonotonicCoarseMs();
  keeper_ms_ = keeper_started_ms_ + kStoreGonePauseMs;
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  auto ends = NotifyPair();
  if (!ends.ok()) {
    Log(Severity::kError, "no keeper: %s", ends.status().message());
    return;
  }
  Launch launch{.program = "/proc/self/exe",
                .arguments = arguments_,
                .environment = {absl::StrCat("EVERMAP_MAPPER_PID=", getpid()),
                                absl::StrCat("EVERMAP_BINARY=", OwnProgram())},
                .descriptors = listeners_,
                .links = {{"EVERMAP_MAPPER", ends->second.get()}}};
  const absl::StatusOr<pid_t> pid = evermap::Start(launch);
  if (!pid.ok()) {
    Log(Severity::kError, "no keeper: %s", pid.status().message());
    return;
  }
  keeper_ms_ = -1;
  store_ = Store(Store::Kind::kKeeper, std::move(ends->first));
  for (uint32_t slot = 0; slot < custody_->capacity(); ++slot) {
    if (custody_->DescriptorOf(slot) < 0 || !registry_->ReadSlot(slot, found_)) continue;
    store_queue_.Add(slot, found_.id, MonotonicCoarseMs());
  }
  StoreDue();
}

bool Mapper::PauseWorkers() {
  SetPhase(Phase::kPaused);
  return shared_->phases.AwaitPaused(static_cast<uint32_t>(workers_.size()), kPauseTimeout);
}

bool Mapper::Leave() {
  is_leaving_ = true;
  StoreNew();
  shared_->has_successor.store(is_succeeded_, std::memory_order_release);
  // Of a registry in another layout there is nothing left to answer from.
  SetPhase(is_succeeded_ && registry_->superseded() ? Phase::kGone : Phase::kLeaving);
  shared_->stopping.Notify();
  const bool is_well = !is_succeeded_ || upgrade_->AwaitServing();
  for (std::thread& thread : threads_) thread.join();
  if (is_succeeded_) FaultPoint("predecessor:passing");
  StoreNew();
  if (is_succeeded_ && succession_.has_value()) PassLate();
  StoreAll();
  return is_well;
}

void Mapper::StoreAll() {
  const absl::Time deadline = absl::Now() + Store::kTellTimeout;
  while (store_.FlushPatiently(deadline) && store_queue_.size() > 0 && absl::Now() < deadline) {
    const size_t unstored = store_queue_.size();
    store_queue_.StoreAll([this](uint32_t slot, uint64_t id) { return StoreConnection(slot, id); });
    if (store_queue_.size() == unstored) absl::SleepFor(kMemoryPause);
  }
  // Of a keeper that ends as well nothing was to be expected.
  const size_t unstored = store_queue_.size() + store_.waiting().size();
  if (unstored > 0 && (is_succeeded_ || store_.kind() == Store::Kind::kSystemd)) {
    Log(Severity::kWarning, "%d connections could not be stored for the next mapper", unstored);
  }
}

void Mapper::PassLate() {
  const int64_t deadline_ms = MonotonicCoarseMs() + kPredecessorEndMs;
  while (true) {
    // The store has them.
    const bool is_there = succession_->TakeLate(
        [this](const OwnedFd& connection) { upgrade_->Pass(connection.get()); });
    const int64_t left_ms = deadline_ms - MonotonicCoarseMs();
    pollfd link = {succession_->link(), POLLIN, 0};
    if (!is_there || left_ms <= 0) return;
    if (poll(&link, 1, static_cast<int>(left_ms)) < 0 && errno != EINTR) return;
  }
}

}  // namespace

int RunMapper(const Options& options, const std::vector<std::string>& arguments,
              Inheritance inherited, absl::FunctionRef<void()> on_ready) {
  return Mapper(options, arguments, std::move(inherited)).Run(on_ready);
}

}  // namespace evermap
