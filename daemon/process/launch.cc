#include "daemon/process/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// glibc 2.36's header does not say that its functions are C's.
extern "C" {
#include <sys/pidfd.h>
}

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/process/fault_point.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

constexpr int kFirst = 3;
constexpr absl::string_view kPidVariable = "LISTEN_PID=";
constexpr absl::string_view kWatcherVariable = "EVERMAP_WATCHER=";
constexpr absl::string_view kRoomForPid = "0000000000";
constexpr useconds_t kOrphanedPauseUs = 200;
constexpr int kOrphanedAttemptsMax = 5000;

// All that the new process needs between fork(2) and execve(2), where it may neither allocate nor
// take a lock.
class Plan {
 public:
  explicit Plan(const Launch& launch)
      : program_(launch.program), otherwise_(launch.otherwise), sources_(launch.descriptors) {
    for (const auto& [name, fd] : launch.links) {
      environment_.push_back(absl::StrCat(name, "=", kFirst + static_cast<int>(sources_.size())));
      sources_.push_back(fd);
    }
    first_link_ = launch.links.empty() ? -1 : static_cast<int>(launch.descriptors.size());
    // What stands on a number that is wanted for another: by number, its place in sources_.
    const size_t end = kFirst + sources_.size();
    place_.assign(end, -1);
    for (size_t i = 0; i < sources_.size(); ++i) {
      if (static_cast<size_t>(sources_[i]) < end) {
        place_[static_cast<size_t>(sources_[i])] = static_cast<int>(i);
      }
    }
    for (char** variable = environ; *variable != nullptr; ++variable) {
      const std::string_view text(*variable);
      if (text.substr(0, 7) == "LISTEN_" || text.substr(0, 8) == "EVERMAP_") continue;
      environment_.emplace_back(text);
    }
    environment_.insert(environment_.end(), launch.environment.begin(), launch.environment.end());
    if (!sources_.empty()) environment_.push_back(absl::StrCat("LISTEN_FDS=", sources_.size()));
    // The last ones, with room for any number.
    environment_.push_back(absl::StrCat(kWatcherVariable, kRoomForPid));
    environment_.push_back(absl::StrCat(kPidVariable, kRoomForPid));
    SetWatcher(0);
    arguments_ = launch.arguments;
    for (std::string& argument : arguments_) argv_.push_back(argument.data());
    argv_.push_back(nullptr);
    for (std::string& variable : environment_) envp_.push_back(variable.data());
    envp_.push_back(nullptr);
  }

  // Returns an errno. Only what signal-safety(7) allows.
  int Execute(bool unblock_signals) {
    for (size_t i = 0; i < sources_.size(); ++i) {
      if (const int error = Place(i); error != 0) return error;
    }
    close_range(static_cast<unsigned>(kFirst + sources_.size()), ~0u, 0);
    Write(getpid(), environment_.back().data() + kPidVariable.size());
    sigset_t none;
    sigemptyset(&none);
    if (unblock_signals) sigprocmask(SIG_SETMASK, &none, nullptr);
    execve(program_.c_str(), argv_.data(), envp_.data());
    if (errno == ENOENT && !otherwise_.empty()) {
      execve(otherwise_.c_str(), argv_.data(), envp_.data());
    }
    return errno;
  }

  void SetWatcher(pid_t pid) {
    Write(pid, environment_[environment_.size() - 2].data() + kWatcherVariable.size());
  }

  // After Execute() came back.
  void TellFirstLink(int error) const {
    if (first_link_ < 0) return;
    char text[] = "ERRNO=000";
    text[6] = static_cast<char>('0' + error / 100 % 10);
    text[7] = static_cast<char>('0' + error / 10 % 10);
    text[8] = static_cast<char>('0' + error % 10);
    send(sources_[static_cast<size_t>(first_link_)], text, sizeof(text) - 1,
         MSG_NOSIGNAL | MSG_DONTWAIT);
  }

 private:
  // Puts source `i` on its number.
  int Place(size_t i) {
    const int target = kFirst + static_cast<int>(i);
    int& source = sources_[i];
    if (source == target) return fcntl(target, F_SETFD, 0) == 0 ? 0 : errno;
    const int there = place_[static_cast<size_t>(target)];
    if (there >= 0) {
      // One more descriptor for a moment, above all numbers that are wanted.
      const int moved = fcntl(target, F_DUPFD_CLOEXEC, kFirst + static_cast<int>(sources_.size()));
      if (moved < 0) return errno;
      sources_[static_cast<size_t>(there)] = moved;
      place_[static_cast<size_t>(target)] = -1;
    }
    if (dup2(source, target) < 0) return errno;
    if (static_cast<size_t>(source) < place_.size()) place_[static_cast<size_t>(source)] = -1;
    close(source);
    source = target;
    return 0;
  }

  static void Write(pid_t pid, char* at) {
    const unsigned number = static_cast<unsigned>(pid);
    unsigned divisor = 1;
    while (number / divisor >= 10) divisor *= 10;
    for (; divisor > 0; divisor /= 10) *at++ = static_cast<char>('0' + number / divisor % 10);
    *at = '\0';
  }

  std::string program_;
  std::string otherwise_;
  std::vector<int> sources_;
  std::vector<int> place_;
  int first_link_ = -1;
  std::vector<std::string> arguments_;
  std::vector<std::string> environment_;
  std::vector<char*> argv_;
  std::vector<char*> envp_;
};

// The life of a watcher: only what signal-safety(7) allows. Tells the pid of the new process
// through `link`, or minus the errno why there is none, and does not take note of its end before
// the other side is closed: until then it is nobody else's pid. The new process begins when that is
// told, as it may end its watcher.
[[noreturn]] void Watch(Plan& plan, int link) {
  int told[2] = {-1, -1};
  plan.SetWatcher(getpid());
  char nothing;
  pid_t pid = pipe2(told, O_CLOEXEC) == 0 ? fork() : -1;
  if (pid == 0) {
    close(told[1]);
    while (read(told[0], &nothing, sizeof(nothing)) < 0 && errno == EINTR) {
    }
    plan.TellFirstLink(plan.Execute(true));
    _exit(kExitNotExecuted);
  }
  if (pid < 0) pid = -errno;
  FaultPoint("watcher:started");
  if (write(link, &pid, sizeof(pid)) != sizeof(pid) || pid < 0) _exit(kExitNotExecuted);
  // Above all the pipe, whose end says that it is told, the nodes' connections, which would not be
  // closed as long as it has them, and the links, whose end would not be noticed.
  dup2(link, kFirst);
  close_range(kFirst + 1, ~0u, 0);
  while (read(kFirst, &nothing, sizeof(nothing)) < 0 && errno == EINTR) {
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    // Without a second core dump.
    prctl(PR_SET_DUMPABLE, 0);
    const int number = WTERMSIG(status);
    signal(number, SIG_DFL);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, nullptr);
    raise(number);
  }
  _exit(WEXITSTATUS(status));
}

}  // namespace

absl::StatusOr<Watched> StartWatched(const Launch& launch) {
  Plan plan(launch);
  const auto failed = [&launch](int error) {
    return absl::ErrnoToStatus(error, absl::StrCat("no process for ", launch.program));
  };
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed(errno);
  const OwnedFd link(ends[0]);
  OwnedFd its_end(ends[1]);
  const pid_t watcher = fork();
  if (watcher < 0) return failed(errno);
  if (watcher == 0) {
    close(ends[0]);
    Watch(plan, ends[1]);
  }
  its_end = OwnedFd();
  pid_t pid = 0;
  ssize_t got;
  do {
    got = read(link.get(), &pid, sizeof(pid));
  } while (got < 0 && errno == EINTR);
  absl::Status status = absl::AbortedError(
      absl::StrCat("no process for ", launch.program, ": who was to start it was killed"));
  if (got == sizeof(pid) && pid < 0) {
    status = failed(-pid);
  } else if (got == sizeof(pid)) {
    Watched started{.watcher = watcher, .process = OwnedFd(pidfd_open(pid, 0))};
    if (started.process.valid()) return started;
    status = failed(errno);
    kill(pid, SIGKILL);
  }
  kill(watcher, SIGKILL);
  while (waitpid(watcher, nullptr, 0) < 0 && errno == EINTR) {
  }
  return status;
}

void EndWatcher(pid_t watcher) {
  // A parent is there; so this is no other process of that number.
  if (watcher <= 1 || getppid() != watcher) return;
  kill(watcher, SIGKILL);
  for (int i = 0; i < kOrphanedAttemptsMax && getppid() == watcher; ++i) usleep(kOrphanedPauseUs);
}

absl::StatusOr<pid_t> Start(const Launch& launch) {
  Plan plan(launch);
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, absl::StrCat("no process for ", launch.program));
  if (pid > 0) return pid;
  plan.TellFirstLink(plan.Execute(true));
  _exit(kExitNotExecuted);
}

absl::Status Replace(const Launch& launch) {
  Plan plan(launch);
  return absl::ErrnoToStatus(plan.Execute(false), launch.program);
}

std::string OwnProgram() {
  const char* named = getenv("EVERMAP_BINARY");
  if (named != nullptr && named[0] == '/') return named;
  std::array<char, PATH_MAX> text;
  const ssize_t size = readlink("/proc/self/exe", text.data(), text.size());
  if (size <= 0) return "";
  // What the kernel adds when the file was replaced.
  return std::string(
      absl::StripSuffix(absl::string_view(text.data(), static_cast<size_t>(size)), " (deleted)"));
}

}  // namespace evermap
