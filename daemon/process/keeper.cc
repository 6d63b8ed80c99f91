#include "daemon/process/keeper.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// glibc 2.36's header does not say that its functions are C's.
extern "C" {
#include <sys/pidfd.h>
}

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/store.h"
#include "daemon/host/descriptor_limit.h"
#include "daemon/host/log.h"
#include "daemon/process/fault_point.h"
#include "daemon/process/launch.h"
#include "daemon/process/upgrade.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// The program that this process runs, even when its file was replaced.
constexpr char kOwnProgram[] = "/proc/self/exe";
// A mapper that served is started again at once when it dies; one that did not get so far is after
// a pause that doubles each time.
constexpr int64_t kRestartPauseMinMs = 100;
constexpr int64_t kRestartPauseMaxMs = 10'000;
// How long a mapper may take to end after it was told to.
constexpr int64_t kStopTimeoutMs = 15'000;
constexpr int kEventsMax = 64;

class Keeper {
 public:
  Keeper(const std::vector<std::string>& arguments, Inheritance inherited,
         absl::FunctionRef<void()> on_ready)
      : arguments_(arguments), on_ready_(on_ready), inherited_(std::move(inherited)) {}
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() {
    for (const int fd : held_) close(fd);
  }

  int Run() {
    if (!Prepare()) return 1;
    while (!exit_code_.has_value()) Turn();
    return *exit_code_;
  }

 private:
  bool Prepare() {
    RaiseDescriptorLimit();
    // Mappers that a mapper starts become children of this process when that one ends.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);
    signal_fd_ = OwnedFd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    epoll_fd_ = OwnedFd(epoll_create1(EPOLL_CLOEXEC));
    if (!signal_fd_.valid() || !epoll_fd_.valid() || !Watch(signal_fd_.get(), EPOLLIN)) {
      Log(Severity::kError, "the keeper cannot start: %s", ErrorText(errno));
      return false;
    }
    for (OwnedFd& fd : inherited_.listeners) Hold(std::move(fd));
    for (OwnedFd& fd : inherited_.connections) Hold(std::move(fd));
    if (inherited_.mapper_pid > 0 && inherited_.mapper.valid()) {
      FaultPoint("keeper:resumed");
      ready_ = has_served_ = true;
      link_ = std::move(inherited_.mapper);
      Watch(link_.get(), EPOLLIN);
      Follow(inherited_.mapper_pid);
    } else {
      StartMapper();
    }
    return true;
  }

  bool Watch(int fd, uint32_t events) {
    epoll_event event = {};
    event.events = events;
    event.data.fd = fd;
    return epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  }

  void Hold(OwnedFd fd) {
    // Without events asked for, only hanging up is reported.
    if (!Watch(fd.get(), 0)) {
      Log(Severity::kWarning, "the keeper cannot watch a connection: %s; it is not held",
          ErrorText(errno));
      return;
    }
    held_.insert(fd.Release());
  }

  void LetGo(int fd) {
    epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
    held_.erase(fd);
    close(fd);
  }

  // In ascending order, in which each has a number that is free where it is to be: in another, many
  // would have to be moved above all for a moment, where there is no room when there are as many as
  // the limit allows.
  std::vector<int> Held() const {
    std::vector<int> held(held_.begin(), held_.end());
    std::sort(held.begin(), held.end());
    return held;
  }

  void StartMapper() {
    auto ends = NotifyPair();
    Launch launch{.program = kOwnProgram,
                  .arguments = arguments_,
                  .environment = {absl::StrCat("EVERMAP_BINARY=", OwnProgram())},
                  .descriptors = Held(),
                  .links = {}};
    has_served_ = false;
    if (ends.ok()) launch.links.emplace_back("EVERMAP_KEEPER", ends->second.get());
    const absl::StatusOr<pid_t> pid = ends.ok() ? Start(launch) : ends.status();
    if (!pid.ok()) {
      Log(Severity::kError, "the keeper cannot start a mapper: %s", pid.status().message());
      PlanRestart();
      return;
    }
    link_ = std::move(ends->first);
    if (!Watch(link_.get(), EPOLLIN)) {
      // It would not be heard.
      Log(Severity::kError, "the keeper cannot watch a mapper: %s", ErrorText(errno));
      kill(*pid, SIGKILL);
    }
    Follow(*pid);
  }

  // From now on `pid` is the mapper.
  void Follow(pid_t pid) {
    mapper_pid_ = pid;
    mapper_status_.reset();
    mapper_fd_ = OwnedFd(pidfd_open(pid, 0));
    if (!mapper_fd_.valid() || !Watch(mapper_fd_.get(), EPOLLIN)) {
      // It has died and was somebody else's child; else there must not be two.
      if (errno != ESRCH) {
        Log(Severity::kError, "the keeper cannot watch the mapper (process %d): %s", pid,
            ErrorText(errno));
        kill(pid, SIGKILL);
      }
      mapper_fd_ = OwnedFd();
      OnMapperEnd();
    } else if (is_stopping_) {
      pidfd_send_signal(mapper_fd_.get(), SIGTERM, nullptr, 0);
    }
  }

  void PlanRestart() {
    if (is_stopping_) {
      exit_code_ = exit_code_.value_or(0);
      return;
    }
    pause_ms_ = has_served_ ? 0 : std::clamp(pause_ms_ * 2, kRestartPauseMinMs, kRestartPauseMaxMs);
    restart_ms_ = MonotonicCoarseMs() + pause_ms_;
  }

  void Turn() {
    if (restart_ms_ >= 0 && MonotonicCoarseMs() >= restart_ms_) {
      restart_ms_ = -1;
      StartMapper();
      return;
    }
    if (kill_ms_ >= 0 && MonotonicCoarseMs() >= kill_ms_) {
      kill_ms_ = -1;
      Log(Severity::kError, "the mapper (process %d) does not end: it is killed", mapper_pid_);
      if (mapper_fd_.valid()) pidfd_send_signal(mapper_fd_.get(), SIGKILL, nullptr, 0);
    }
    std::array<epoll_event, kEventsMax> events;
    const int count = epoll_wait(epoll_fd_.get(), events.data(), kEventsMax, TimeoutMs());
    for (int i = 0; i < count && !exit_code_.has_value(); ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      // What an earlier event of this turn closed is not there any more.
      if (fd == signal_fd_.get()) {
        OnSignal();
      } else if (fd == link_.get()) {
        OnLink();
      } else if (fd == mapper_fd_.get()) {
        OnMapperEnd();
      } else if (held_.contains(fd)) {
        LetGo(fd);
      }
    }
  }

  int TimeoutMs() const {
    int64_t wake_ms = -1;
    for (const int64_t planned_ms : {restart_ms_, kill_ms_}) {
      if (planned_ms >= 0 && (wake_ms < 0 || planned_ms < wake_ms)) wake_ms = planned_ms;
    }
    if (wake_ms < 0) return -1;
    return static_cast<int>(std::max<int64_t>(wake_ms - MonotonicCoarseMs(), 0));
  }

  void OnSignal() {
    signalfd_siginfo info = {};
    while (read(signal_fd_.get(), &info, sizeof(info)) == sizeof(info)) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) {
        Reap();
        continue;
      }
      if (signal == SIGHUP) {
        upgrade_is_asked_for_ = true;
        PassUpgrade();
        continue;
      }
      if (mapper_fd_.valid()) pidfd_send_signal(mapper_fd_.get(), signal, nullptr, 0);
      is_stopping_ = true;
      if (!mapper_fd_.valid()) exit_code_ = 0;
      if (kill_ms_ < 0) kill_ms_ = MonotonicCoarseMs() + kStopTimeoutMs;
    }
  }

  // To a mapper that serves: one that does not yet would be ended by it, and one that has died,
  // which may not have been noticed, would not do it.
  void PassUpgrade() {
    if (!upgrade_is_asked_for_ || !has_served_ || !mapper_fd_.valid()) return;
    pollfd end = {mapper_fd_.get(), POLLIN, 0};
    if (poll(&end, 1, 0) > 0) return;
    upgrade_is_asked_for_ = pidfd_send_signal(mapper_fd_.get(), SIGHUP, nullptr, 0) != 0;
  }

  void Reap() {
    int status = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
      if (pid == mapper_pid_) mapper_status_ = status;
    }
  }

  void OnLink() {
    Notification message;
    while (link_.valid()) {
      switch (ReceiveNotification(link_.get(), message)) {
        case Received::kMessage:
          OnMessage(message);
          break;
        case Received::kNothing:
          return;
        case Received::kClosed:
          // The mapper is dying, and its process says so, too; or this end was shut down.
          if (!is_too_late_) CloseLink();
          return;
      }
    }
  }

  void CloseLink() {
    if (!link_.valid()) return;
    epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, link_.get(), nullptr);
    link_ = OwnedFd();
  }

  void OnMessage(Notification& message) {
    if (message.Get("FDSTORE") == "1") {
      for (OwnedFd& fd : message.fds) Hold(std::move(fd));
    }
    if (message.Get("STOPPING") == "1") is_stopping_ = true;
    if (message.Get("READY") == "1") {
      has_served_ = true;
      if (!std::exchange(ready_, true)) on_ready_();
    }
    if (const auto text = message.Get("MAINPID"); text.has_value()) {
      int pid = 0;
      if (!absl::SimpleAtoi(absl::string_view(text->data(), text->size()), &pid) || pid <= 0) {
        return;
      }
      FaultPoint("keeper:mainpid");
      if (is_too_late_) {
        // Another one is about to be started with all that this one has.
        kill(pid, SIGKILL);
        return;
      }
      const auto program = message.Get(kProgramKey);
      if (!is_stopping_) {
        ReplaceIfOutdated(pid, program.has_value() ? std::string(*program) : std::string());
      }
      Follow(pid);
    }
    PassUpgrade();
  }

  // Goes on as the program of mapper `pid`, if that is another one: the next mapper has to know
  // what this one has made of the registry. `named` is the program's file, for when the mapper has
  // died.
  void ReplaceIfOutdated(pid_t pid, const std::string& named) {
    std::string program = absl::StrCat("/proc/", pid, "/exe");
    struct stat own;
    struct stat its;
    if (stat(program.c_str(), &its) != 0) program = named;
    if (stat(kOwnProgram, &own) != 0 || stat(program.c_str(), &its) != 0 ||
        (own.st_dev == its.st_dev && own.st_ino == its.st_ino) ||
        access(program.c_str(), X_OK) != 0) {
      return;
    }
    Log(Severity::kNotice, "the keeper is replaced, too");
    FaultPoint("keeper:outdated");
    Launch launch{.program = program,
                  .otherwise = named,
                  .arguments = arguments_,
                  .environment = {absl::StrCat("EVERMAP_MAPPER_PID=", pid)},
                  .descriptors = Held(),
                  .links = {{"EVERMAP_MAPPER", link_.get()}}};
    const absl::Status failed = Replace(launch);
    Log(Severity::kError, "the keeper cannot be replaced: %s", failed.message());
    // The mapper sees the link close, and starts another keeper.
    _exit(1);
  }

  void OnMapperEnd() {
    // What it said last counts.
    const pid_t ended = mapper_pid_;
    OnLink();
    if (mapper_pid_ != ended) return;
    // A successor that has not said by now that it is the mapper is told so by a closed link.
    if (link_.valid()) {
      shutdown(link_.get(), SHUT_RD);
      is_too_late_ = true;
      OnLink();
      is_too_late_ = false;
      if (link_.valid()) SendNotification(link_.get(), kTooLate);
    }
    CloseLink();
    Reap();
    mapper_fd_ = OwnedFd();
    mapper_pid_ = 0;
    kill_ms_ = -1;
    const int status = mapper_status_.value_or(0);
    const bool exited = WIFEXITED(status);
    if (is_stopping_ || (!ready_ && exited)) {
      exit_code_ = exited ? WEXITSTATUS(status) : 1;
      return;
    }
    Log(Severity::kError, "the mapper (process %d) %s; it is started again with %d sockets", ended,
        !mapper_status_.has_value() ? "has ended"
        : exited                    ? absl::StrCat("ended with exit code ", WEXITSTATUS(status))
                 : absl::StrCat("was ended by signal ", sigabbrev_np(WTERMSIG(status))),
        held_.size());
    PlanRestart();
  }

  const std::vector<std::string>& arguments_;
  absl::FunctionRef<void()> on_ready_;
  Inheritance inherited_;
  OwnedFd signal_fd_;
  OwnedFd epoll_fd_;
  OwnedFd link_;
  absl::flat_hash_set<int> held_;  // owned

  pid_t mapper_pid_ = 0;
  OwnedFd mapper_fd_;                 // a pidfd
  std::optional<int> mapper_status_;  // as waitpid(2) gives it
  bool ready_ = false;                // some mapper has served
  bool has_served_ = false;           // the one that is followed has
  bool is_stopping_ = false;
  bool upgrade_is_asked_for_ = false;
  bool is_too_late_ = false;  // for a MAINPID: see OnMapperEnd()
  int64_t pause_ms_ = 0;
  int64_t restart_ms_ = -1;  // MonotonicCoarseMs(); -1: not planned
  int64_t kill_ms_ = -1;
  std::optional<int> exit_code_;
};

}  // namespace

int RunKeeper(const std::vector<std::string>& arguments, Inheritance inherited,
              absl::FunctionRef<void()> on_ready) {
  return Keeper(arguments, std::move(inherited), on_ready).Run();
}

}  // namespace evermap
