#include "daemon/process/inherited_state.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "daemon/host/close_from.h"
#include "daemon/host/descriptor_limit.h"

namespace evermap {
namespace {

// That of descriptors is host/descriptor_limit.h's affair, that of stacks RaiseStackLimit()'s.
constexpr std::array<int, 3> kKeptLimits = {RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_STACK};
// What Linux gives by default, and what is too little for a thread.
constexpr rlim_t kStackUsual = rlim_t{8} << 20;
constexpr rlim_t kStackTiny = rlim_t{1} << 20;

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
    rlimit limit = {};
    const auto resource = static_cast<__rlimit_resource_t>(which);
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == limit.rlim_max) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(resource, &limit);
  }
}

// The stack of this thread grows up to the limit as it is then; the C library has read it already for
// those of other threads.
void RaiseStackLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kStackTiny) return;
  limit.rlim_cur = std::min(limit.rlim_max, kStackUsual);
  pthread_attr_t attributes;
  if (setrlimit(RLIMIT_STACK, &limit) != 0 || pthread_attr_init(&attributes) != 0) return;
  if (pthread_attr_setstacksize(&attributes, limit.rlim_cur) == 0) {
    pthread_setattr_default_np(&attributes);
  }
  pthread_attr_destroy(&attributes);
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
  RaiseStackLimit();
  MakeRoomForDescriptors();
}

}  // namespace evermap
