#include "tools/epmdctl/view/pause.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "daemon/host/steady_time.h"
#include "registry/base/owned_fd.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// poll(2) takes an int.
constexpr int64_t kPollMsMax = 3'600'000;

}  // namespace

Pause::Pause(std::initializer_list<int> signals, Keys keys) : keys_(keys) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_ = OwnedFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) {
    // The signals are blocked already, so without this descriptor only SIGKILL could end the
    // command.
    PrintError("no descriptor for signals; raise the limit of open files (ulimit -n)");
    std::exit(kExitFailed);
  }
}

Pause::Event Pause::For(absl::Duration duration) { return Until(SteadyNow() + duration); }

Pause::Event Pause::Until(absl::Time deadline, absl::Span<const int> descriptors) {
  while (true) {
    // poll(2) reports an error of a pipe without a reader even when no event is asked for.
    enum { kSignals, kOutput, kKeys, kOthers };
    std::vector<pollfd> waited = {
        {signals_.get(), POLLIN, 0},
        {STDOUT_FILENO, 0, 0},
        {keys_ == Keys::kRead ? STDIN_FILENO : -1, POLLIN, 0},
    };
    for (const int fd : descriptors) waited.push_back({fd, POLLIN, 0});
    const absl::Duration left = deadline - SteadyNow();
    const int64_t left_ms = std::clamp<int64_t>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 0, kPollMsMax);
    const int ready = poll(waited.data(), waited.size(), static_cast<int>(left_ms));
    if (ready > 0 && waited[kSignals].revents != 0) {
      signalfd_siginfo signal;
      if (read(signals_.get(), &signal, sizeof(signal)) == sizeof(signal)) {
        return {Event::kSignal, static_cast<int>(signal.ssi_signo)};
      }
    } else if (ready > 0 && waited[kOutput].revents != 0) {
      return {Event::kNoReader, 0};
    } else if (ready > 0 && waited[kKeys].revents != 0) {
      unsigned char key = 0;
      return {Event::kKey, read(STDIN_FILENO, &key, 1) == 1 ? key : -1};
    } else if (ready > 0) {
      return {Event::kReadable, 0};
    }
    if (SteadyNow() >= deadline) return {Event::kTime, 0};
  }
}

}  // namespace evermap
