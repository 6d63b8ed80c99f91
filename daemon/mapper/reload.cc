#include "daemon/mapper/reload.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/host/log.h"
#include "registry/upgrade_request.h"

namespace evermap {

Reload::Reload(Configuration& configuration, const Registry& registry, Pausing pausing,
               std::function<void()> apply)
    : configuration_(configuration),
      registry_(registry),
      pausing_(std::move(pausing)),
      apply_(std::move(apply)) {}

bool Reload::IsAsked() {
  const uint64_t request = ReloadRequestId(registry_.path());
  if (request == 0 || request == asked_) return false;
  asked_ = request;
  return true;
}

void Reload::GoOn() {
  if ((has_looked_ && asked_ == 0) || !pausing_.is_alone()) return;
  has_looked_ = true;
  asked_ = 0;
  if (!TakeReloadRequest(registry_.path())) return;
  const absl::Status status = Do();
  const std::string refusal(status.message());
  if (!status.ok()) Log(Severity::kError, "the settings stay as they are: %s", refusal);
  configuration_.NoteReload(registry_.path(), refusal);
}

absl::Status Reload::Do() {
  if (absl::Status status = configuration_.Read(); !status.ok()) return status;
  if (!pausing_.pause()) {
    pausing_.resume();
    return absl::UnavailableError("the workers do not pause; ask again");
  }
  const std::vector<std::string> changed = configuration_.Take();
  apply_();
  pausing_.resume();
  Log(Severity::kNotice, "settings were read anew: %s",
      changed.empty() ? "nothing has changed"
                      : absl::StrCat("changed ", absl::StrJoin(changed, ", ")));
  return absl::OkStatus();
}

}  // namespace evermap
