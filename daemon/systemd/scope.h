// A scope of systemd: a control group for processes that systemd has not started, beside the unit
// that they came from. They are not ended together with that.
//
// Thread safety: a function without state.
#ifndef EVERMAP_DAEMON_SYSTEMD_SCOPE_H_
#define EVERMAP_DAEMON_SYSTEMD_SCOPE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/systemd/manager.h"

namespace evermap {

// Moves this process, and so all that it starts from here on, to a new scope of this name
// ("epmd-1.scope") of `manager`. Waits up to `timeout` until it is there: kDeadlineExceeded when it
// is not. Other errors are systemd's.
absl::Status EnterScope(SystemdManager& manager, const std::string& scope,
                        std::string_view description, absl::Duration timeout);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SYSTEMD_SCOPE_H_
