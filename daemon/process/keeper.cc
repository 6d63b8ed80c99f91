#include "daemon/process/keeper.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/host/descriptor_limit.h"
#include "daemon/host/log.h"
#include "daemon/host/own_program.h"
#include "daemon/host/signal_descriptor.h"
#include "daemon/host/timers.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/hand_over.h"
#include "daemon/process/keeper_holdings.h"
#include "daemon/process/keeper_relief.h"
#include "daemon/process/launch.h"
#include "daemon/process/mapper_watch.h"
#include "daemon/process/process_fd.h"
#include "daemon/process/reaper.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

using State = MapperWatch::State;
using Event = MapperWatch::Event;

constexpr int kEventsMax = 64;
class Keeper {
 public:
  Keeper(const std::vector<std::string>& arguments, const KeeperOptions& options, bool is_stray,
         absl::FunctionRef<void()> on_ready)
      : arguments_(arguments),
        post_(options.port, is_stray, options.is_daemon),
        on_ready_(on_ready) {}
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  int Run(const KeeperOptions& options, Inheritance inherited) {
    if (!Prepare()) return 1;
    if (!inherited.mapper.valid() && options.is_mapper_there != nullptr) {
      std::optional<Inheritance> relieved = RelieveKeeper(options.port, options.is_mapper_there);
      if (relieved.has_value()) inherited = *std::move(relieved);
    }
    for (OwnedFd& fd : inherited.connections) holdings_->Hold(std::move(fd));
    for (OwnedFd& fd : inherited.listeners) holdings_->Hold(std::move(fd));
    for (OwnedFd& fd : inherited.files) holdings_->HoldFile(std::move(fd));
    holdings_->HoldReadySets(std::move(inherited.ready_sets));
    const bool has_mapper = inherited.mapper_pid > 0 && inherited.mapper.valid();
    if (has_mapper && !Resume(std::move(inherited.mapper), inherited.mapper_pid)) return 1;
    while (watch_.state() != State::kEnded) Turn();
    return watch_.exit_code();
  }

 private:
  // What becomes of a process that says it is the mapper: it is followed, or killed, when another
  // mapper is about to be started with all that it has.
  enum class Newcomer { kFollowed, kKilled };

  bool Prepare();
  // False, and said, when it cannot watch that mapper, which starts another keeper then.
  bool Resume(OwnedFd link, pid_t mapper_pid);
  // The mapper accepts connections.
  void SayReady();
  // Waits for the next events, or until something is due, and does it.
  void Turn();
  bool OnEvent(int fd);
  void GiveUp();
  void OnSignal();
  void PassUpgrade();
  void OnNewcomer();
  bool Watch(int fd, uint32_t events);

  void StartMapper();
  bool TryFollow(pid_t pid, OwnedFd process);
  void Follow(pid_t pid, OwnedFd process);
  void OnLeaderEnd();
  void OnMapperEnd();
  void LogEnd(pid_t ended, std::optional<int> status) const;
  void Reap();
  void ReadLink(Newcomer newcomer);
  void CloseLink();
  void OnMessage(Notification& message, Newcomer newcomer);
  void OnMainPid(Notification& message, Newcomer newcomer);
  void ReplaceIfOutdated(pid_t pid, const std::string& named);

  const std::vector<std::string>& arguments_;
  ReliefPost post_;
  std::optional<absl::FunctionRef<void()>> on_ready_;  // nothing once it was called
  OwnedFd signal_fd_;
  OwnedFd epoll_fd_;
  std::optional<KeeperHoldings> holdings_;  // made by Prepare()
  HandOver hand_over_;
  // A SIGHUP has come that no mapper has got yet.
  bool is_upgrade_pending_ = false;

  MapperWatch watch_;
  OwnedFd link_;
  pid_t mapper_pid_ = 0;
  pid_t dying_pid_ = 0;  // another one has taken its place, or will, before it has ended
  OwnedFd leader_fd_;    // a pidfd of its first thread alone
  OwnedFd mapper_fd_;    // process_fd.h; without one although a mapper is followed, that has ended
  std::optional<int> mapper_status_;  // as waitpid(2) gives it, if it was released already
  Reaper reaper_;
};

bool Keeper::Prepare() {
  RaiseDescriptorLimit();
  // A successor becomes a child of this process when its watcher or its predecessor ends.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  signal_fd_ = SignalDescriptor({SIGTERM, SIGINT, SIGHUP, SIGCHLD});
  epoll_fd_ = OwnedFd(epoll_create1(EPOLL_CLOEXEC));
  if (!signal_fd_.valid() || !epoll_fd_.valid() || !Watch(signal_fd_.get(), EPOLLIN)) {
    Log(Severity::kError, "the keeper cannot start: %s", ErrorText(errno));
    return false;
  }
  holdings_.emplace(epoll_fd_.get());
  return true;
}

// Follows a mapper that serves already: it has started this keeper, or has had another before.
bool Keeper::Resume(OwnedFd link, pid_t mapper_pid) {
  FaultPoint("keeper:resumed");
  watch_ = MapperWatch::OfServingMapper();
  link_ = std::move(link);
  AskForSender(link_.get());
  const bool hears = Watch(link_.get(), EPOLLIN);
  if (!hears) Log(Severity::kError, "the keeper cannot hear the mapper: %s", ErrorText(errno));
  const bool is_of_use = hears && TryFollow(mapper_pid, OpenProcess(mapper_pid));
  if (is_of_use) SayReady();
  return is_of_use;
}

void Keeper::SayReady() {
  if (on_ready_.has_value()) (*on_ready_)();
  on_ready_.reset();
  post_.Open(epoll_fd_.get());
}

void Keeper::OnNewcomer() {
  // A mapper that still gets its connections from this keeper would get no more.
  const bool serves = watch_.state() == State::kServing && link_.valid() && mapper_fd_.valid() &&
                      !hand_over_.is_under_way();
  const Kept kept = {.sockets = holdings_->Sockets(),
                     .files = holdings_->Files(),
                     .ready_sets = holdings_->ReadySets(),
                     .link = link_.get(),
                     .mapper_pid = mapper_pid_};
  if (!post_.TakeNewcomer(serves, kept)) return;
  Log(Severity::kNotice, "the keeper is relieved");
  // At once: what an end of this object closes or tells is the other keeper's affair now.
  _exit(0);
}

bool Keeper::Watch(int fd, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  return epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

// Without the connections, which come behind it (hand_over.h): the mapper does not wait for them.
void Keeper::StartMapper() {
  auto ends = NotifyPair();
  auto connections_ends = NotifyPair();
  const bool has_links = ends.ok() && connections_ends.ok();
  Launch launch{.program = kOwnProgramLink,
                .otherwise = OwnProgram(),
                .arguments = arguments_,
                .environment = {absl::StrCat(kBinaryVariable, "=", OwnProgram())},
                .descriptors = holdings_->AllButConnections(),
                .links = {}};
  if (has_links) {
    launch.links.emplace_back(variables::kKeeperLink, ends->second.get());
    launch.links.emplace_back(variables::kConnectionsLink, connections_ends->second.get());
  }
  const absl::StatusOr<pid_t> pid = has_links   ? Start(launch)
                                    : ends.ok() ? connections_ends.status()
                                                : ends.status();
  if (!pid.ok()) {
    Log(Severity::kError, "the keeper cannot start a mapper: %s", pid.status().message());
    watch_.On(Event::kNotStarted, MonotonicCoarseMs());
    return;
  }
  watch_.On(Event::kStarted, MonotonicCoarseMs());
  link_ = std::move(ends->first);
  AskForSender(link_.get());
  if (!Watch(link_.get(), EPOLLIN)) {
    // Its messages would never be read, so that the next mapper would have none of its sockets.
    Log(Severity::kError, "the keeper cannot watch a mapper: %s", ErrorText(errno));
    kill(*pid, SIGKILL);
  }
  hand_over_.Begin(std::move(connections_ends->first), holdings_->Connections(),
                   holdings_->TakeReadySets());
  Follow(*pid, OpenProcess(*pid));
}

// From now on process `pid` is the mapper; `process` is what OpenProcess() gives, with errno. False,
// and said, when it may run and cannot be watched.
bool Keeper::TryFollow(pid_t pid, OwnedFd process) {
  const int open_error = process.valid() ? 0 : errno;
  assert(pid > 0 && watch_.has_mapper());
  // The one that was followed before may have ended, and say so itself now; then its status stays.
  if (pid != mapper_pid_) mapper_status_.reset();
  mapper_pid_ = pid;
  leader_fd_ = OwnedFd();
  mapper_fd_ = std::move(process);
  errno = open_error;
  if (!mapper_fd_.valid() || !Watch(mapper_fd_.get(), EPOLLIN)) {
    const int error = errno;
    mapper_fd_ = OwnedFd();
    if (error == ESRCH) return true;  // It has ended, and another process has waited for it.
    Log(Severity::kError, "the keeper cannot watch the mapper (process %d): %s", pid,
        ErrorText(error));
    return false;
  }
  if (watch_.state() == State::kStopping) {
    SignalProcess(mapper_fd_.get(), mapper_pid_, SIGTERM);
  }
  leader_fd_ = OpenFirstThread(pid, mapper_fd_.get());
  if (leader_fd_.valid()) Watch(leader_fd_.get(), EPOLLIN);
  return true;
}

// As TryFollow(), but one that cannot be watched must not run when this keeper starts another.
void Keeper::Follow(pid_t pid, OwnedFd process) {
  if (TryFollow(pid, std::move(process))) return;
  kill(pid, SIGKILL);
  // Nor must anybody hear that it serves, or take it for one that has exited.
  CloseLink();
  if (int status = 0; waitpid(pid, &status, 0) == pid) mapper_status_ = status;
}

void Keeper::Turn() {
  const int64_t now_ms = MonotonicCoarseMs();
  if (watch_.has_mapper() && !mapper_fd_.valid()) return OnMapperEnd();
  if (watch_.IsStartDue(now_ms)) return StartMapper();
  if (watch_.IsGivingUpDue(now_ms)) return GiveUp();
  if (watch_.IsKillDue(now_ms)) {
    Log(Severity::kError, "the mapper (process %d) does not end: it is killed", mapper_pid_);
    SignalProcess(mapper_fd_.get(), mapper_pid_, SIGKILL);
  }
  if (hand_over_.is_under_way()) {
    hand_over_.Continue([this](int fd) { return holdings_->Holds(fd); });
  }
  // What has ended is not released while a mapper waits for this keeper (reaper.h).
  const bool is_awaited = watch_.is_starting() || hand_over_.is_under_way();
  const int64_t reap_ms = is_awaited ? -1 : reaper_.wake_ms();
  if (reap_ms >= 0 && now_ms >= reap_ms) return Reap();
  post_.TryAgain(now_ms);
  std::array<epoll_event, kEventsMax> events;
  const int timeout_ms = TimeoutUntil(
      now_ms, {watch_.wake_ms(), hand_over_.wake_ms(now_ms), post_.wake_ms(), reap_ms});
  const int count = epoll_wait(epoll_fd_.get(), events.data(), kEventsMax, timeout_ms);
  bool has_newcomer = false;
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<size_t>(i)].data.fd;
    if (holdings_->Holds(fd)) {
      holdings_->LetGo(fd);
    } else if (fd == post_.fd()) {
      has_newcomer = true;
    } else if (OnEvent(fd)) {
      // Descriptors that this has closed may have given their numbers to others: what else was told
      // is not believed, and is told again where it holds.
      break;
    }
  }
  // Anybody may knock, as often as he likes, and keeps nothing else from being heard.
  if (has_newcomer && watch_.state() != State::kEnded) OnNewcomer();
}

// False when it says nothing.
bool Keeper::OnEvent(int fd) {
  if (fd == signal_fd_.get()) {
    OnSignal();
  } else if (fd == link_.get()) {
    ReadLink(Newcomer::kFollowed);
  } else if (fd == leader_fd_.get()) {
    OnLeaderEnd();
  } else if (fd == mapper_fd_.get() && HasEnded(fd, mapper_pid_)) {
    OnMapperEnd();
  } else {
    return false;
  }
  return true;
}

// What is held is closed when this process ends.
void Keeper::GiveUp() {
  if (mapper_fd_.valid()) SignalProcess(mapper_fd_.get(), mapper_pid_, SIGKILL);
  Log(Severity::kError,
      "no mapper could be started for %d s: the port is free for another one, and %d sockets are "
      "let go, so that their nodes register again",
      MapperWatch::kGiveUpMs / 1000, holdings_->sockets());
  watch_.On(Event::kGivenUp, MonotonicCoarseMs());
}

void Keeper::OnSignal() {
  signalfd_siginfo info = {};
  while (read(signal_fd_.get(), &info, sizeof(info)) == sizeof(info)) {
    switch (const int signal = static_cast<int>(info.ssi_signo)) {
      case SIGCHLD:
        reaper_.OnChildEnd(MonotonicCoarseMs());
        if (watch_.has_mapper() && LookAt(mapper_pid_).status.has_value()) OnMapperEnd();
        break;
      case SIGHUP:
        is_upgrade_pending_ = true;
        PassUpgrade();
        break;
      default:
        if (mapper_fd_.valid()) SignalProcess(mapper_fd_.get(), mapper_pid_, signal);
        watch_.On(Event::kStopAsked, MonotonicCoarseMs());
    }
  }
}

// SIGHUP would end a mapper that does not serve yet; one that has died, which may not have been
// noticed, would not do the upgrade; and one that stops would only begin it.
void Keeper::PassUpgrade() {
  if (!is_upgrade_pending_ || watch_.state() != State::kServing || !mapper_fd_.valid()) return;
  if (HasEnded(mapper_fd_.get(), mapper_pid_)) return;
  is_upgrade_pending_ = SignalProcess(mapper_fd_.get(), mapper_pid_, SIGHUP) != 0;
}

void Keeper::Reap() {
  reaper_.Reap([this](pid_t pid, int status) {
    if (pid == mapper_pid_) mapper_status_ = status;
    if (pid == dying_pid_) LogEnd(std::exchange(dying_pid_, 0), status);
  });
}

void Keeper::ReadLink(Newcomer newcomer) {
  Notification message;
  while (link_.valid()) {
    switch (ReceiveNotification(link_.get(), message)) {
      case Received::kMessage:
        OnMessage(message, newcomer);
        break;
      case Received::kNothing:
        return;
      case Received::kClosed:
        // The mapper is dying, and its pidfd will report that. If newcomers are killed, this end
        // was shut down (OnMapperEnd()) and is still needed to say so.
        if (newcomer == Newcomer::kFollowed) CloseLink();
        return;
    }
  }
}

void Keeper::CloseLink() {
  if (!link_.valid()) return;
  epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, link_.get(), nullptr);
  link_ = OwnedFd();
}

void Keeper::OnMessage(Notification& message, Newcomer newcomer) {
  if (message.Says(words::kStore)) {
    holdings_->HoldAll(std::exchange(message.fds, {}), message.Says(words::kStoreName));
  }
  if (message.Says(words::kReadySets)) holdings_->HoldReadySets(std::move(message.fds));
  if (message.Says(words::kForget)) {
    holdings_->LetGoOfFile(message.Get(words::kFileName).value_or(""));
  }
  if (const auto error = message.Get(words::kNotExecuted); error.has_value()) {
    Log(Severity::kError, "%s cannot be executed: error %s", OwnProgram(), std::string(*error));
  }
  if (message.Says(words::kStopping)) watch_.On(Event::kLeaves, MonotonicCoarseMs());
  if (message.Says(words::kReady)) {
    watch_.On(Event::kReady, MonotonicCoarseMs());
    SayReady();
  }
  OnMainPid(message, newcomer);
  PassUpgrade();
}

// A mapper tells of itself, so its process is the sender's. What was sent through a link before this
// keeper asked for that, by an older release, has only the process id as a number, which may be
// another's by now if the mapper has ended.
void Keeper::OnMainPid(Notification& message, Newcomer newcomer) {
  const auto text = message.Get(words::kMainPid);
  int pid = 0;
  if (!text.has_value() || !absl::SimpleAtoi(absl::string_view(text->data(), text->size()), &pid) ||
      pid <= 0) {
    return;
  }
  if (message.sender_pid > 0) pid = message.sender_pid;
  const bool is_followed = pid == mapper_pid_ && mapper_fd_.valid();
  OwnedFd process = std::move(message.sender);
  if (!process.valid() && !is_followed) process = OpenProcess(pid);
  const int error = errno;
  FaultPoint("keeper:mainpid");
  if (newcomer == Newcomer::kKilled) {
    if (process.valid()) SignalProcess(process.get(), pid, SIGKILL);
    return;
  }
  // A program that knows nothing of files would refuse what it is started with.
  if (!message.Says(words::kTakesFiles)) holdings_->LetGoOfFiles();
  if (watch_.state() != State::kStopping) {
    ReplaceIfOutdated(pid, std::string(message.Get(words::kProgram).value_or("")));
  }
  errno = error;
  if (!is_followed) Follow(pid, std::move(process));
}

// Goes on as the program of mapper `pid`, if that is another one: the next mapper must be able to
// read what this one has made of the registry. `named` is the program's file, for when the mapper
// has died.
void Keeper::ReplaceIfOutdated(pid_t pid, const std::string& named) {
  const std::string program = OtherProgramOf(pid, named);
  if (program.empty()) return;
  Log(Severity::kNotice, "the keeper is replaced, too");
  FaultPoint("keeper:outdated");
  const Launch launch{
      .program = program,
      .otherwise = named,
      .arguments = arguments_,
      .environment = {absl::StrCat(variables::kMapperPid, "=", pid),
                      absl::StrCat(variables::kIsStray, "=", post_.IsAttended() ? 0 : 1)},
      .descriptors = holdings_->All(),
      .links = {{variables::kMapperLink, link_.get()}}};
  const absl::Status failed = Replace(launch);
  Log(Severity::kError, "the keeper cannot be replaced: %s", failed.message());
  // The mapper sees the link close, and starts another keeper.
  _exit(1);
}

// The first thread of a mapper ends with all the others, milliseconds before the kernel has closed
// what the process had and it has ended; by then the next mapper may serve.
void Keeper::OnLeaderEnd() {
  leader_fd_ = OwnedFd();
  // How one ends that has served for a moment only decides when the next one is started.
  if (!watch_.has_settled(MonotonicCoarseMs()) || !mapper_fd_.valid()) return;
  SignalProcess(mapper_fd_.get(), mapper_pid_, SIGKILL);
  OnMapperEnd();
}

void Keeper::OnMapperEnd() {
  const pid_t ended = mapper_pid_;
  // What it said last counts: perhaps that another process is the mapper now.
  ReadLink(Newcomer::kFollowed);
  if (mapper_pid_ != ended) return;
  // A successor that has not said so by now is too late, and must neither serve beside the mapper
  // that is started next nor wait. What it says from here on fails; what it has said meanwhile is
  // read before it is told.
  if (link_.valid()) {
    shutdown(link_.get(), SHUT_RD);
    ReadLink(Newcomer::kKilled);
    SendNotification(link_.get(), words::kTooLate);
  }
  CloseLink();
  hand_over_.End();
  const Child child = LookAt(ended);
  const std::optional<int> status =
      child.status.has_value() ? child.status : std::exchange(mapper_status_, std::nullopt);
  leader_fd_ = OwnedFd();
  mapper_fd_ = OwnedFd();
  mapper_pid_ = 0;
  watch_.OnEnd(status, MonotonicCoarseMs());
  if (watch_.state() == State::kEnded) return;
  if (!status.has_value() && child.is_own) {
    // How it ends is known when it has.
    dying_pid_ = ended;
    return;
  }
  LogEnd(ended, status);
}

void Keeper::LogEnd(pid_t ended, std::optional<int> status) const {
  Log(Severity::kError, "the mapper (process %d) %s; it is started again with %d sockets", ended,
      HowEnded(status), holdings_->sockets());
}

}  // namespace

int RunKeeper(const std::vector<std::string>& arguments, const KeeperOptions& options,
              Inheritance inherited, absl::FunctionRef<void()> on_ready) {
  Keeper keeper(arguments, options, inherited.is_stray, on_ready);
  return keeper.Run(options, std::move(inherited));
}

}  // namespace evermap
