#include "tools/epmdctl/view/pause.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "absl/time/clock.h"
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

Pause::Event Pause::For(absl::Duration duration) { return Until(absl::Now() + duration); }

Pause::Event Pause::Until(absl::Time deadline) {
  while (true) {
    // poll(2) reports an error of a pipe without a reader even when no event is asked for.
    std::array<pollfd, 3> waited = {pollfd{signals_.get(), POLLIN, 0}, pollfd{STDOUT_FILENO, 0, 0},
                                    pollfd{STDIN_FILENO, POLLIN, 0}};
    const absl::Duration left = deadline - absl::Now();
    const int64_t left_ms = std::clamp<int64_t>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 0, kPollMsMax);
    const int ready = poll(waited.data(), keys_ == Keys::kRead ? 3 : 2, static_cast<int>(left_ms));
    if (ready > 0 && waited[0].revents != 0) {
      signalfd_siginfo signal;
      if (read(signals_.get(), &signal, sizeof(signal)) == sizeof(signal)) {
        return {Event::kSignal, static_cast<int>(signal.ssi_signo)};
      }
    } else if (ready > 0 && waited[1].revents != 0) {
      return {Event::kNoReader, 0};
    } else if (ready > 0 && waited[2].revents != 0) {
      unsigned char key = 0;
      return {Event::kKey, read(STDIN_FILENO, &key, 1) == 1 ? key : -1};
    }
    if (absl::Now() >= deadline) return {Event::kTime, 0};
  }
}

}  // namespace evermap
