// Messages between our processes, and from a mapper to systemd: systemd's notify protocol
// (sd_notify(3)), lines KEY=VALUE in one datagram, with descriptors beside them. words.h lists what
// is said.
//
//   auto ends = NotifyPair();
//   SendNotification(ends->first.get(), words::kStore, {connection_fd});
//   Notification message;
//   if (ReceiveNotification(ends->second.get(), message) == Received::kMessage &&
//       message.Says(words::kStore)) ...
//
// sd_notify() itself would not do: it waits while the receiver's queue is full, and a mapper must
// not wait for a keeper that was stopped. Between our own processes the datagrams travel through a
// pair of sockets that no other process has, so that none can forge a message.
//
// Thread safety: functions without state; a message is one system call.
#ifndef EVERMAP_DAEMON_CUSTODY_NOTIFY_H_
#define EVERMAP_DAEMON_CUSTODY_NOTIFY_H_

#include <sys/types.h>

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

// Bounds of a message: bytes of text, and descriptors, of which the kernel takes at most 253 at
// once (SCM_MAX_FD).
inline constexpr size_t kNotifyTextMax = 2048;
inline constexpr size_t kNotifyFdsMax = 128;

struct Notification {
  std::string text;
  std::vector<OwnedFd> fds;
  // More descriptors were sent than this process could take: it has as many as its limit allows.
  bool has_lost_fds = false;
  // The process that sent it, by the kernel's word; 0 where the socket does not AskForSender(), and
  // of a message that was sent before it did.
  pid_t sender_pid = 0;
  // Its pidfd, which the kernel gives (since 6.5) even when the process has ended, and its id been
  // given to another.
  OwnedFd sender;
  // The value of the first line that begins with `key` and '='; it lives as long as `text`.
  std::optional<std::string_view> Get(std::string_view key) const;
  // Whether the first line with the key of `word`, a line KEY=VALUE, is `word`.
  bool Says(std::string_view word) const;
};

// Two connected ends: SOCK_SEQPACKET, non-blocking, close-on-exec. Closing one end is seen as end
// of file at the other. An error says why there are no descriptors for them.
absl::StatusOr<std::pair<OwnedFd, OwnedFd>> NotifyPair();

// A socket connected to `address`, as in $NOTIFY_SOCKET: an absolute path, or "@" and an abstract
// name. kInvalidArgument when it is neither, else why connect(2) failed.
absl::StatusOr<OwnedFd> ConnectToNotifySocket(const std::string& address);

// Sends one message without waiting. Returns 0 or an errno; EAGAIN: the receiver's queue is full.
// The descriptors stay the caller's.
// REQUIRES: 0 < text.size() <= kNotifyTextMax, fds.size() <= kNotifyFdsMax.
int SendNotification(int socket, std::string_view text, absl::Span<const int> fds = {});

// As SendNotification(), but waits up to `timeout` for room in the receiver's queue, or for memory.
int SendNotificationPatiently(int socket, std::string_view text, absl::Span<const int> fds,
                              absl::Duration timeout);

// Has the kernel tell with each message that comes from now on which process has sent it. A kernel
// that cannot give a pidfd tells the process id alone.
void AskForSender(int socket);

enum class Received { kMessage, kNothing, kClosed };
// Takes one message, if there is one; otherwise `message` has no descriptors. That descriptors were
// lost is logged. kClosed when the
// other end is closed and all that came from it is read, and also for a socket that does not work.
Received ReceiveNotification(int socket, Notification& message);
// As ReceiveNotification(), but waits up to `timeout` for a message; kNothing when that is over.
Received AwaitNotification(int socket, Notification& message, absl::Duration timeout);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_CUSTODY_NOTIFY_H_
