#include "daemon/mapper/publication.h"

#include <algorithm>
#include <utility>

#include "daemon/host/log.h"
#include "registry/base/clock.h"
#include "registry/directory.h"
#include "registry/location.h"
#include "registry/mending.h"

namespace evermap {

Publication::Publication(const Options& options, Claim& claim, Store& store, Timers& timers,
                         Pausing host, std::function<void()> on_mended)
    : options_(options),
      claim_(claim),
      store_(store),
      host_(std::move(host)),
      on_mended_(std::move(on_mended)),
      look_(timers, [this] { Look(); }) {}

void Publication::Watch() {
  // One that never had a path has been spoken of.
  is_lost_ = has_failed_ = !claim_.was_published() && !claim_.IsPublished();
  look_.Plan(MonotonicCoarseMs() + kPauseMs);
}

void Publication::Look() {
  const int64_t now_ms = MonotonicCoarseMs();
  look_.Plan(now_ms + kPauseMs);
  if (claim_.IsPublished()) {
    if (is_lost_) Log(Severity::kNotice, "%s: the registry is found again", claim_.path());
    is_lost_ = has_failed_ = false;
    next_mend_ms_ = 0;
    mend_pause_ms_ = kPauseMs;
    return;
  }
  if (!is_lost_) {
    Log(Severity::kWarning,
        "%s: the registry or its lock file is not there any more; no node is "
        "lost, and the file is put back",
        claim_.path());
  }
  is_lost_ = true;
  if (now_ms < next_mend_ms_ || !host_.is_alone()) return;
  const absl::Status mended = Mend();
  if (mended.ok()) {
    on_mended_();
    Look();
    return;
  }
  if (!has_failed_) {
    Log(Severity::kWarning, "%s; epmdctl and other readers do not find the registry until then",
        mended.message());
  }
  has_failed_ = true;
  next_mend_ms_ = now_ms + mend_pause_ms_;
  mend_pause_ms_ = std::min(2 * mend_pause_ms_, kPauseMaxMs);
}

// Where the registry may be put, the best place first.
std::vector<std::string> Publication::Paths() const {
  if (!options_.registry_path.empty()) return {options_.registry_path};
  return {claim_.path(), DefaultRegistryPath(options_.port), NamespaceRegistryPath(options_.port)};
}

absl::Status Publication::Mend() {
  absl::Status first = absl::OkStatus();
  std::string last;
  for (const std::string& path : Paths()) {
    if (path == std::exchange(last, path)) continue;
    absl::Status status;
    // A directory that the user chose is the user's to make.
    if (options_.registry_path.empty()) status = MakeRegistryDirectory(path);
    if (status.ok()) status = MendAt(path);
    if (status.ok()) return status;
    if (first.ok()) first = std::move(status);
  }
  return first;
}

absl::Status Publication::MendAt(const std::string& path) {
  Mending mending(claim_);
  absl::Status status = mending.Begin(path);
  if (status.ok() && !(store_.HoldFiles(mending.files(), {}) && store_.AwaitHeld())) {
    status = absl::UnavailableError(path + ": cannot be put back: its store takes nothing");
  }
  if (status.ok()) {
    if (host_.pause()) {
      status = mending.Finish();
    } else {
      status = absl::UnavailableError(path + ": cannot be put back: the workers do not pause");
    }
    host_.resume();
  }
  store_.HoldFiles({}, mending.outdated());
  return status;
}

}  // namespace evermap
