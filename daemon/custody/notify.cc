#include "daemon/custody/notify.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/host/log.h"
#include "daemon/host/steady_time.h"
#include "registry/base/owned_fd.h"

namespace evermap {
namespace {

// How long a sender pauses when the kernel has no memory for the message.
constexpr absl::Duration kMemoryPause = absl::Milliseconds(1);
// poll(2) is asked again after this long at the latest, as its timeout is an int.
constexpr int64_t kPollMsMax = 60'000;
constexpr size_t kControlSize =
    CMSG_SPACE(kNotifyFdsMax * sizeof(int)) + CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int));
// Of Linux 6.5, which glibc 2.36 does not know.
constexpr int kPassPidfd = 76;
constexpr int kScmPidfd = 0x04;

// Waits for `events`; false when `deadline` passed.
bool AwaitUntil(int socket, short events, absl::Time deadline) {
  while (true) {
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - SteadyNow());
    pollfd waiting = {socket, events, 0};
    const int ready =
        poll(&waiting, 1, static_cast<int>(std::clamp<int64_t>(left_ms, 0, kPollMsMax)));
    if (ready > 0) return true;
    // The caller's next call on the socket says what is wrong with it.
    if (ready < 0 && errno != EINTR) return true;
    if (SteadyNow() >= deadline) return false;
  }
}

void TakeControl(const cmsghdr* part, Notification& message) {
  const unsigned char* const data = CMSG_DATA(part);
  if (part->cmsg_level != SOL_SOCKET) return;
  if (part->cmsg_type == SCM_CREDENTIALS) {
    ucred sender = {};
    std::memcpy(&sender, data, sizeof(sender));
    message.sender_pid = sender.pid;
  } else if (part->cmsg_type == kScmPidfd) {
    int fd = -1;
    std::memcpy(&fd, data, sizeof(fd));
    // Minus an errno: there is no descriptor for it, or the process has ended on an older kernel.
    if (fd >= 0) message.sender = OwnedFd(fd);
  } else if (part->cmsg_type == SCM_RIGHTS) {
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, data + i * sizeof(int), sizeof(fd));
      message.fds.emplace_back(fd);
    }
  }
}

}  // namespace

std::optional<std::string_view> Notification::Get(std::string_view key) const {
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (line.size() > key.size() && line[key.size()] == '=' && line.starts_with(key)) {
      return line.substr(key.size() + 1);
    }
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return std::nullopt;
}

bool Notification::Says(std::string_view word) const {
  const size_t key_size = word.find('=');
  assert(key_size != std::string_view::npos);
  return Get(word.substr(0, key_size)) == word.substr(key_size + 1);
}

absl::StatusOr<std::pair<OwnedFd, OwnedFd>> NotifyPair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "no pair of sockets");
  }
  return std::make_pair(OwnedFd(ends[0]), OwnedFd(ends[1]));
}

absl::StatusOr<OwnedFd> ConnectToNotifySocket(const std::string& address) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if (address.size() < 2 || address.size() >= sizeof(name.sun_path) ||
      (address[0] != '/' && address[0] != '@')) {
    return absl::InvalidArgumentError(
        absl::StrCat("NOTIFY_SOCKET is '", address, "', neither a path nor an abstract name"));
  }
  std::memcpy(name.sun_path, address.data(), address.size());
  if (address[0] == '@') name.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  OwnedFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid() || connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("NOTIFY_SOCKET ", address));
  }
  return fd;
}

int SendNotification(int socket, std::string_view text, absl::Span<const int> fds) {
  assert(!text.empty() && text.size() <= kNotifyTextMax && fds.size() <= kNotifyFdsMax);
  iovec part = {const_cast<char*>(text.data()), text.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, kControlSize> control = {};
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

int SendNotificationPatiently(int socket, std::string_view text, absl::Span<const int> fds,
                              absl::Duration timeout) {
  const absl::Time deadline = SteadyNow() + timeout;
  while (true) {
    const int error = SendNotification(socket, text, fds);
    // The kernel has no memory, or too many descriptors are on their way to the receiver.
    if (error == ENOMEM || error == ENOBUFS || error == ETOOMANYREFS) {
      if (SteadyNow() >= deadline) return error;
      absl::SleepFor(kMemoryPause);
      continue;
    }
    if (error != EAGAIN || !AwaitUntil(socket, POLLOUT, deadline)) return error;
  }
}

void AskForSender(int socket) {
  // A socket of this family takes the first; the second is refused by an older kernel.
  const int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
  setsockopt(socket, SOL_SOCKET, kPassPidfd, &on, sizeof(on));
}

Received ReceiveNotification(int socket, Notification& message) {
  message.text.assign(kNotifyTextMax, '\0');
  message.fds.clear();
  message.has_lost_fds = false;
  message.sender_pid = 0;
  message.sender = OwnedFd();
  iovec part = {message.text.data(), message.text.size()};
  alignas(cmsghdr) std::array<char, kControlSize> control;
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got;
  do {
    got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    // An end that is closed before it has read all is reported once, before what it has said.
  } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
  if (got < 0) {
    // When there is no memory, the message stays in the queue and can be taken later.
    const bool may_come = errno == EAGAIN || errno == ENOMEM || errno == ENOBUFS;
    return may_come ? Received::kNothing : Received::kClosed;
  }
  for (cmsghdr* part_of = CMSG_FIRSTHDR(&header); part_of != nullptr;
       part_of = CMSG_NXTHDR(&header, part_of)) {
    TakeControl(part_of, message);
  }
  message.text.resize(static_cast<size_t>(got));
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    message.has_lost_fds = true;
    Log(Severity::kError,
        "connections that were passed to this process are lost, as it has as many descriptors as "
        "its limit allows; raise it (ulimit -n, LimitNOFILE=)");
  }
  // No message is empty, so this is end of file.
  return got == 0 ? Received::kClosed : Received::kMessage;
}

Received AwaitNotification(int socket, Notification& message, absl::Duration timeout) {
  const absl::Time deadline = SteadyNow() + timeout;
  while (true) {
    const Received received = ReceiveNotification(socket, message);
    if (received != Received::kNothing || !AwaitUntil(socket, POLLIN, deadline)) return received;
  }
}

}  // namespace evermap
