// Messages between a mapper and whoever holds its descriptors: systemd's notify protocol
// (sd_notify(3)), lines NAME=VALUE in one datagram, with descriptors beside them.
//
//   auto ends = NotifyPair();
//   SendNotification(ends->first.get(), "FDSTORE=1\n", {connection_fd});
//   Notification message;
//   if (ReceiveNotification(ends->second.get(), message) == Received::kMessage) ...
//
// Not sd_notify() itself, because that waits while the receiver's queue is full, and a mapper must
// not wait for a keeper that was stopped. Between our own processes the datagrams travel through a
// pair of sockets that nobody else can reach, so there is nothing to forge.
//
// Thread safety: functions without state; a message is one system call.
#ifndef EVERMAP_DAEMON_CUSTODY_NOTIFY_H_
#define EVERMAP_DAEMON_CUSTODY_NOTIFY_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// Bounds of a message. The kernel takes 253 descriptors at once (SCM_MAX_FD).
inline constexpr size_t kNotifyTextMax = 2048;
inline constexpr size_t kNotifyFdsMax = 128;

struct Notification {
  std::string text;
  std::vector<OwnedFd> fds;
  // Of the first line NAME=...
  std::optional<std::string_view> Get(std::string_view name) const;
};

// Two connected ends: SOCK_SEQPACKET, non-blocking, close-on-exec. Who closes his end is noticed by
// the other.
absl::StatusOr<std::pair<OwnedFd, OwnedFd>> NotifyPair();

// A socket connected to `address`, as in $NOTIFY_SOCKET: a path, or "@" and an abstract name.
absl::StatusOr<OwnedFd> ConnectToNotifySocket(const std::string& address);

// 0, or an errno; EAGAIN: the receiver's queue is full. The descriptors stay the caller's.
// REQUIRES: text.size() <= kNotifyTextMax, fds.size() <= kNotifyFdsMax.
int SendNotification(int socket, std::string_view text, absl::Span<const int> fds = {});

// As SendNotification(), but waits up to `timeout` for room.
int SendNotificationPatiently(int socket, std::string_view text, absl::Span<const int> fds,
                              absl::Duration timeout);

enum class Received { kMessage, kNothing, kClosed };
// Takes one message, if there is one. kClosed also for a socket that is broken.
Received ReceiveNotification(int socket, Notification& message);
// Waits up to `timeout`; kNothing when that is over.
Received AwaitNotification(int socket, Notification& message, absl::Duration timeout);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_NOTIFY_H_
