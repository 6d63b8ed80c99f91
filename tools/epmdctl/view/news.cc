#include "tools/epmdctl/view/news.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/host/steady_time.h"
#include "registry/base/text.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// Between two looks for what is not told: that a mapper has ended, where the kernel does not say so, and
// that a file which cannot be read has become readable.
constexpr absl::Duration kUntoldInterval = absl::Seconds(1);
// How long a mapper that has just begun to serve may take to say that it tells of changes.
constexpr absl::Duration kBeginning = absl::Seconds(1);

}  // namespace

News::News(const std::string& path, absl::Duration interval)
    : interval_(interval), watch_(RegistryWatch::Open(path, problem_)) {
  if (watch_ == nullptr) SayPolls(problem_);
}

Pause::Event News::Await(Pause& pause, const Seen& seen) {
  if (seen.pid != pid_) {
    pid_ = seen.pid;
    mapper_ = OwnedFd();
    // Kernels before 5.3 do not have that.
    if (pid_ != 0) mapper_ = OwnedFd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  }
  const std::array<int, 2> descriptors = {watch_ == nullptr ? -1 : watch_->fd(),
                                          mapper_.valid() ? mapper_.get() : -1};
  const Pause::Event event = pause.Until(SteadyNow() + PauseMax(seen), descriptors);
  // What is told once is not told again, also where /proc hides from this process that the mapper has ended.
  pollfd end = {mapper_.valid() ? mapper_.get() : -1, POLLIN, 0};
  if (poll(&end, 1, 0) > 0) mapper_ = OwnedFd();
  if (watch_ != nullptr) {
    if (const int error = watch_->Take().error; error != 0) {
      SayPolls(absl::StrCat("the registry cannot be watched: ", ErrorText(error)));
      watch_.reset();
    }
  }
  return event;
}

absl::Duration News::PauseMax(const Seen& seen) {
  if (watch_ == nullptr) return interval_;
  if (!seen.is_readable) return std::max(interval_, kUntoldInterval);
  if (!seen.tells_changes) {
    if (seen.pid == 0) return interval_;
    if (std::exchange(silent_pid_, seen.pid) != seen.pid) silent_since_ = SteadyNow();
    const absl::Duration left = kBeginning - (SteadyNow() - silent_since_);
    if (left > absl::ZeroDuration()) return std::min(interval_, left);
    SayPolls("the mapper does not tell of changes");
    return interval_;
  }
  if (seen.pid != 0 && !mapper_.valid()) return std::max(interval_, kUntoldInterval);
  return absl::InfiniteDuration();
}

void News::SayPolls(const std::string& why) {
  if (!has_said_) {
    PrintError(absl::StrCat(why, "; looks every ", absl::FormatDuration(interval_), " instead"));
  }
  has_said_ = true;
}

}  // namespace evermap
