// Who reads $NOTIFY_SOCKET: systemd, which holds descriptors for a service, or somebody who only wants to
// know when the mapper serves, like a container's runtime or another supervisor.
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_CUSTODY_NOTIFY_SOCKET_H_
#define EVERMAP_DAEMON_CUSTODY_NOTIFY_SOCKET_H_

#include <string>

#include "absl/time/time.h"

namespace evermap {

// Waits until the reader has done all that it was told through `link` before, `timeout` at most; false
// when it has not (BARRIER=1 in sd_notify(3)).
bool AwaitNotified(int link, absl::Duration timeout);

// Whether the reader of the socket at `address` holds descriptors. It is given one, and the kernel says
// whether that is still open afterwards. False as well when it does not read within `timeout`.
bool HoldsDescriptors(const std::string& address, absl::Duration timeout);

// Says at `address` that connections are accepted, and which process is to be looked after: this one.
void SayReady(const std::string& address);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_NOTIFY_SOCKET_H_
