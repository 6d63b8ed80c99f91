#include "daemon/process/inherited_state.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "daemon/host/close_from.h"

namespace evermap {
namespace {

constexpr std::array<int, 2> kKeptLimits = {RLIMIT_CORE, RLIMIT_STACK};

void ResetSignals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  // Some of these numbers are refused: SIGKILL, SIGSTOP, and what the C library keeps to itself.
  for (int signal = 1; signal < NSIG; ++signal) {
    if (signal != SIGQUIT) sigaction(signal, &action, nullptr);
  }
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, nullptr);
  sigset_t freed;
  sigfillset(&freed);
  for (const int kept : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigdelset(&freed, kept);
  sigprocmask(SIG_UNBLOCK, &freed, nullptr);
}

void StopTimers() {
  const itimerval none = {};
  for (const int timer : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
    setitimer(static_cast<__itimer_which_t>(timer), &none, nullptr);
  }
}

void RaiseSoftLimits() {
  for (int which = 0; which < static_cast<int>(RLIM_NLIMITS); ++which) {
    if (std::find(kKeptLimits.begin(), kKeptLimits.end(), which) != kKeptLimits.end()) continue;
    // How many descriptors are asked for is the affair of host/descriptor_limit.h.
    if (which == RLIMIT_NOFILE) continue;
    rlimit limit = {};
    const auto resource = static_cast<__rlimit_resource_t>(which);
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == limit.rlim_max) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(resource, &limit);
  }
}

}  // namespace

void OpenStandardStreams() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

void PutInheritedStateRight(unsigned passed) {
  OpenStandardStreams();
  CloseFrom(STDERR_FILENO + 1 + passed);
  ResetSignals();
  StopTimers();
  umask(022);
  RaiseSoftLimits();
}

}  // namespace evermap
