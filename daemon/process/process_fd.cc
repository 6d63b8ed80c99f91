#include "daemon/process/process_fd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

// glibc 2.36's header does not say that its functions are C's.
extern "C" {
#include <sys/pidfd.h>
}

#include <array>
#include <cerrno>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace evermap {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// Of Linux 6.9, which glibc 2.36 does not know.
constexpr unsigned kPidfdThread = O_EXCL;

// Whether /proc says that the process has ended, and nobody has waited for it yet.
bool IsZombie(pid_t pid) {
  const OwnedFd file(open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 256> text;
  const ssize_t size = file.valid() ? read(file.get(), text.data(), text.size()) : 0;
  if (size <= 0) return false;
  // The name before it is in parentheses, and may hold any bytes.
  const std::string_view stat(text.data(), static_cast<size_t>(size));
  const size_t end = stat.rfind(") ");
  return end != std::string_view::npos &&
         (stat.substr(end + 2, 1) == "Z" || stat.substr(end + 2, 1) == "X");
}

bool Exists(pid_t pid) { return (kill(pid, 0) == 0 || errno == EPERM) && !IsZombie(pid); }

OwnedFd Ticks() {
  OwnedFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  itimerspec period = {};
  period.it_interval.tv_nsec = kLookMs * kNsPerMs;
  period.it_value = period.it_interval;
  if (timer.valid() && timerfd_settime(timer.get(), 0, &period, nullptr) != 0) return OwnedFd();
  return timer;
}

}  // namespace

OwnedFd OpenProcess(pid_t pid) {
  OwnedFd process(pidfd_open(pid, 0));
  if (process.valid() || errno == ESRCH) return process;
  if (!Exists(pid)) {
    errno = ESRCH;
    return {};
  }
  return Ticks();
}

OwnedFd OpenFirstThread(pid_t pid, int process) {
  OwnedFd leader(static_cast<int>(syscall(SYS_pidfd_open, pid, kPidfdThread)));
  struct stat its;
  struct stat the_process;
  if (!leader.valid() || fstat(leader.get(), &its) != 0 || fstat(process, &the_process) != 0 ||
      its.st_dev != the_process.st_dev || its.st_ino != the_process.st_ino) {
    return OwnedFd();
  }
  return leader;
}

bool HasEnded(int process, pid_t pid) {
  uint64_t ticks = 0;
  // A pidfd cannot be read.
  if (read(process, &ticks, sizeof(ticks)) == sizeof(ticks) || errno == EAGAIN) {
    return !Exists(pid);
  }
  pollfd end = {process, POLLIN, 0};
  return poll(&end, 1, 0) > 0;
}

Child LookAt(pid_t pid) {
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0) return {};
  if (info.si_pid != pid) return {.is_own = true};
  // How a wait status is put together is no interface of the C library.
  const int status = info.si_code == CLD_EXITED   ? info.si_status << 8
                     : info.si_code == CLD_DUMPED ? info.si_status | WCOREFLAG
                                                  : info.si_status;
  return {.is_own = true, .status = status};
}

int SignalProcess(int process, pid_t pid, int signal) {
  if (pidfd_send_signal(process, signal, nullptr, 0) == 0) return 0;
  if (errno == ESRCH || HasEnded(process, pid)) return ESRCH;
  return kill(pid, signal) == 0 ? 0 : errno;
}

}  // namespace evermap
