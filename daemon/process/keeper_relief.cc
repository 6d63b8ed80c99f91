#include "daemon/process/keeper_relief.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/words.h"
#include "daemon/host/descriptor_limit.h"
#include "daemon/host/log.h"
#include "daemon/host/steady_time.h"
#include "daemon/process/fault_point.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

// How long the one side waits for the other's next message.
constexpr absl::Duration kTurnPatience = absl::Seconds(1);
// Between two attempts to reach a keeper that is to be expected.
constexpr absl::Duration kRetryPause = absl::Milliseconds(20);
constexpr int kNewcomersMax = 8;  // that wait

struct AbstractAddress {
  sockaddr_un name = {};
  socklen_t size = 0;
};

AbstractAddress AddressOf(uint16_t port) {
  const std::string text = absl::StrCat("evermap/keeper/", geteuid(), "/", port);
  AbstractAddress address;
  address.name.sun_family = AF_UNIX;
  // The first byte stays zero, which makes it an abstract one.
  std::memcpy(address.name.sun_path + 1, text.data(), text.size());
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return address;
}

OwnedFd Socket() {
  return OwnedFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// The process at the other end; 0 when it is another user's or cannot be told.
pid_t PeerOfThisUser(int socket) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return 0;
  return peer.uid == geteuid() ? peer.pid : 0;
}

bool Says(int socket, std::string_view word) {
  return SendNotificationPatiently(socket, word, {}, kTurnPatience) == 0;
}

// Sends descriptors, as many at a time as go into a message, each time when the other asks.
bool SendAll(int newcomer, const std::string& text, absl::Span<const int> fds) {
  Notification message;
  for (size_t at = 0; at < fds.size(); at += kNotifyFdsMax) {
    const absl::Span<const int> part = fds.subspan(at, kNotifyFdsMax);
    if (SendNotificationPatiently(newcomer, text, part, kTurnPatience) != 0 ||
        AwaitNotification(newcomer, message, kTurnPatience) != Received::kMessage ||
        !message.Says(words::kRelieve)) {
      return false;
    }
  }
  return true;
}

int ToPid(std::optional<std::string_view> text) {
  int pid = 0;
  const bool is_number =
      text.has_value() && absl::SimpleAtoi(absl::string_view(text->data(), text->size()), &pid);
  return is_number ? pid : 0;
}

// What became of one attempt.
enum class Attempt { kRelieved, kAttended, kLater, kNobody };

Attempt TryToRelieve(uint16_t port, Inheritance& inherited) {
  const AbstractAddress address = AddressOf(port);
  const OwnedFd keeper = Socket();
  if (!keeper.valid() ||
      connect(keeper.get(), reinterpret_cast<const sockaddr*>(&address.name), address.size) != 0) {
    return Attempt::kNobody;
  }
  const pid_t keeper_pid = PeerOfThisUser(keeper.get());
  Notification message;
  while (keeper_pid > 0 && Says(keeper.get(), words::kRelieve) &&
         AwaitNotification(keeper.get(), message, kTurnPatience) == Received::kMessage) {
    if (message.Says(words::kAttended)) return Attempt::kAttended;
    if (message.Says(words::kLater)) return Attempt::kLater;
    if (message.has_lost_fds) return Attempt::kNobody;
    if (message.Says(words::kStore)) {
      const bool are_sockets = message.Says(words::kStoreName);
      std::vector<OwnedFd>& kept = are_sockets ? inherited.connections : inherited.files;
      std::move(message.fds.begin(), message.fds.end(), std::back_inserter(kept));
      continue;
    }
    inherited.mapper_pid = ToPid(message.Get(words::kMainPid));
    if (inherited.mapper_pid <= 0 || message.fds.empty() ||
        ToPid(message.Get(words::kKeeperPid)) != keeper_pid) {
      return Attempt::kNobody;
    }
    inherited.mapper = std::move(message.fds[0]);
    std::move(message.fds.begin() + 1, message.fds.end(), std::back_inserter(inherited.ready_sets));
    FaultPoint("keeper:relieves");
    if (!Says(keeper.get(), words::kRelieved)) return Attempt::kNobody;
    Log(Severity::kNotice,
        "takes the place of keeper %d, which nobody attended; the mapper (process %d) serves on",
        keeper_pid, inherited.mapper_pid);
    return Attempt::kRelieved;
  }
  return Attempt::kNobody;
}

}  // namespace

void ReliefPost::Open(int epoll_fd) {
  if (listening_.valid()) return;
  epoll_fd_ = epoll_fd;
  retry_ms_ = MonotonicCoarseMs() + kListenRetryMs;
  const AbstractAddress address = AddressOf(port_);
  OwnedFd fd = Socket();
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = fd.get();
  if (fd.valid() &&
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.name), address.size) == 0 &&
      listen(fd.get(), kNewcomersMax) == 0 &&
      epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd.get(), &event) == 0) {
    listening_ = std::move(fd);
    retry_ms_ = -1;
  }
}

void ReliefPost::TryAgain(int64_t now_ms) {
  if (retry_ms_ >= 0 && now_ms >= retry_ms_) Open(epoll_fd_);
}

bool ReliefPost::TakeNewcomer(bool serves, const Kept& kept) {
  const OwnedFd newcomer(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  Notification message;
  if (!newcomer.valid() || PeerOfThisUser(newcomer.get()) == 0 ||
      AwaitNotification(newcomer.get(), message, kTurnPatience) != Received::kMessage ||
      !message.Says(words::kRelieve)) {
    return false;
  }
  if (IsAttended() || !serves) {
    Says(newcomer.get(), IsAttended() ? words::kAttended : words::kLater);
    return false;
  }
  if (HandOver(newcomer.get(), kept)) return true;
  Open(epoll_fd_);
  return false;
}

bool ReliefPost::HandOver(int newcomer, const Kept& kept) {
  if (!SendAll(newcomer, absl::StrCat(words::kStore, "\n", words::kStoreName), kept.sockets) ||
      !SendAll(newcomer, words::kStore, kept.files)) {
    return false;
  }
  // The newcomer listens at this address from then on.
  listening_ = OwnedFd();
  const std::string last =
      absl::StrCat(words::kMainPid, "=", kept.mapper_pid, "\n", words::kKeeperPid, "=", getpid());
  std::vector<int> fds = {kept.link};
  fds.insert(fds.end(), kept.ready_sets.begin(), kept.ready_sets.end());
  Notification message;
  return SendNotificationPatiently(newcomer, last, fds, kTurnPatience) == 0 &&
         AwaitNotification(newcomer, message, kTurnPatience) == Received::kMessage &&
         message.Says(words::kRelieved);
}

std::optional<Inheritance> RelieveKeeper(uint16_t port, absl::FunctionRef<bool()> is_mapper_there) {
  RaiseDescriptorLimit();
  const absl::Time deadline = SteadyNow() + kReliefPatience;
  while (true) {
    Inheritance inherited;
    const Attempt attempt = TryToRelieve(port, inherited);
    if (attempt == Attempt::kRelieved) return inherited;
    const bool may_come =
        attempt == Attempt::kLater || (attempt == Attempt::kNobody && is_mapper_there());
    if (!may_come || SteadyNow() >= deadline) return std::nullopt;
    absl::SleepFor(kRetryPause);
  }
}

}  // namespace evermap
