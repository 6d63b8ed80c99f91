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

void Reload::GoOn() {
  if (!is_asked_ || !pausing_.is_alone()) return;
  is_asked_ = false;
  std::string complaint;
  const bool is_there = BeginReload(registry_.path(), complaint);
  if (!complaint.empty()) Log(Severity::kWarning, "%s", complaint);
  if (!is_there) return;
  const absl::Status status = Do();
  const std::string refusal(status.message());
  if (!status.ok()) Log(Severity::kError, "the settings stay as they are: %s", refusal);
  configuration_.NoteReload(registry_.path(), refusal);
  EndReload(registry_.path());
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
