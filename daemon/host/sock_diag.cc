#include "daemon/host/sock_diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "daemon/host/proc_sockets.h"
#include "registry/base/clock.h"
#include "registry/base/file_text.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// Netlink answers at once; this is for a kernel that does not.
constexpr timeval kAnswerTimeout = {1, 0};
constexpr size_t kAnswerSizeMax = 32768;

// What the kernel calls users that have no number in a user namespace.
constexpr uint32_t kOverflowUid = 65534;
// The size of a user namespace in which each has one.
constexpr uint32_t kAllUids = ~0u;

// How many times as long as /proc was read it is not read afterwards.
constexpr int64_t kProcPauseFactor = 9;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

OwnedFd OpenNetlink() {
  OwnedFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (fd.valid()) {
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerTimeout, sizeof(kAnswerTimeout));
  }
  return fd;
}

Request RequestFor(sa_family_t family, uint16_t flags) {
  Request request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  request.body.sdiag_family = static_cast<uint8_t>(family);
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1u << TCP_LISTEN;
  request.body.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return request;
}

uint64_t CookieIn(const inet_diag_msg& answer) {
  return uint64_t{answer.id.idiag_cookie[0]} | (uint64_t{answer.id.idiag_cookie[1]} << 32);
}

// What NLMSG_DATA gives.
const char* ContentOf(const nlmsghdr* message) {
  return reinterpret_cast<const char*>(message) + NLMSG_HDRLEN;
}

// Whether a request for all sockets of a family fails so because the kernel has no such family. Any
// other error says nothing about what sockets there are.
bool IsWithoutFamily(int error) {
  return error == ENOENT || error == EAFNOSUPPORT || error == EOPNOTSUPP ||
         error == EPROTONOSUPPORT;
}

// Sends a request and calls `visit` for each socket in the answer; what is left of an answer to an
// earlier one is passed over. Returns an errno.
template <typename Visit>
int Exchange(int netlink, Request request, Visit visit) {
  static std::atomic<uint32_t> last_sequence{0};
  request.header.nlmsg_seq = last_sequence.fetch_add(1, std::memory_order_relaxed) + 1;
  if (send(netlink, &request, sizeof(request), 0) < 0) return errno;
  alignas(nlmsghdr) std::array<char, kAnswerSizeMax> buffer;
  while (true) {
    const ssize_t got = recv(netlink, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? errno : EIO;
    auto left = static_cast<uint32_t>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_seq != request.header.nlmsg_seq) continue;
      if (message->nlmsg_type == NLMSG_DONE) {
        // An error of a request for all of them stands here.
        int result = 0;
        if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(result))) {
          std::memcpy(&result, ContentOf(message), sizeof(result));
        }
        return result < 0 ? -result : 0;
      }
      if (message->nlmsg_type == NLMSG_ERROR) {
        nlmsgerr refused;
        std::memcpy(&refused, ContentOf(message), sizeof(refused));
        return -refused.error;
      }
      inet_diag_msg answer;
      std::memcpy(&answer, ContentOf(message), sizeof(answer));
      visit(answer);
      if ((message->nlmsg_flags & NLM_F_MULTI) == 0) return 0;
    }
  }
}

// The number of a socket's network namespace; 0 where the kernel (before 5.14) does not tell.
uint64_t NetworkNamespace(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

bool HasAllUsers() {
  std::istringstream map(FileText("/proc/self/uid_map"));
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t count = 0;
  return !(map >> inside >> outside >> count) || count == kAllUids;
}

// `uid` as the kernel says it, but for a user who has no number in this process's user namespace.
uint32_t KnownUid(uint32_t uid) {
  return uid == kOverflowUid && !HasAllUsers() ? kUnknownUid : uid;
}

TcpListener ListeningIn(const inet_diag_msg& answer) {
  return {
      .cookie = CookieIn(answer), .uid = KnownUid(answer.idiag_uid), .inode = answer.idiag_inode};
}

// Of the socket whose ends are these.
uint32_t PeerUidFromProc(const Endpoint& here, const Endpoint& there) {
  uint32_t uid = kUnknownUid;
  ReadProcSockets(ProcSockets::kAll, [&](const ProcSocket& socket) {
    if (socket.state != TCP_ESTABLISHED || socket.inode == 0 || !socket.here.IsSame(here) ||
        !socket.there.IsSame(there)) {
      return true;
    }
    uid = KnownUid(socket.uid);
    return false;
  });
  return uid;
}

}  // namespace

uint64_t SocketCookie(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

void Listeners::Add(uint16_t port, uint64_t cookie, uint32_t inode, uint32_t uid) {
  inodes_.emplace(cookie, inode);
  const auto [entry, is_first] = by_port_.emplace(port, TcpListener{cookie, uid});
  if (!is_first && entry->second.cookie != cookie) entry->second = {};
}

uint32_t Listeners::InodeOf(uint64_t cookie) const {
  const auto found = inodes_.find(cookie);
  return found == inodes_.end() ? 0 : found->second;
}

std::optional<TcpListener> Listeners::OnlyOneOn(uint16_t port) const {
  const auto found = by_port_.find(port);
  if (found == by_port_.end() || found->second.cookie == 0) return std::nullopt;
  return found->second;
}

absl::StatusOr<Listeners> ReadListeners() {
  const OwnedFd netlink = OpenNetlink();
  if (!netlink.valid()) return absl::UnavailableError(ErrorText(errno));
  Listeners listeners;
  for (const sa_family_t family : {sa_family_t{AF_INET}, sa_family_t{AF_INET6}}) {
    const int error =
        Exchange(netlink.get(), RequestFor(family, NLM_F_DUMP), [&](const inet_diag_msg& answer) {
          if (answer.idiag_state == TCP_LISTEN) {
            listeners.Add(ntohs(answer.id.idiag_sport), CookieIn(answer), answer.idiag_inode,
                          KnownUid(answer.idiag_uid));
          }
        });
    if (error != 0 && !(family == AF_INET6 && IsWithoutFamily(error))) {
      return absl::UnavailableError(ErrorText(error));
    }
  }
  return listeners;
}

bool SocketQuery::Open() {
  if (netlink_.valid()) return true;
  if (is_missing_) return false;
  netlink_ = OpenNetlink();
  if (!netlink_.valid()) return false;
  network_namespace_ = NetworkNamespace(netlink_.get());
  // A kernel without TCP's part of sock_diag says ENOENT, as it does of a socket that is not there.
  // It says so of all sockets in no state, too, of which there is none.
  Request request = RequestFor(AF_INET, NLM_F_DUMP);
  request.body.idiag_states = 0;
  const int error = Exchange(netlink_.get(), request, [](const inet_diag_msg&) {});
  if (error == 0) return true;
  is_missing_ = error == ENOENT;
  netlink_ = OwnedFd();
  return false;
}

std::optional<TcpListener> SocketQuery::ListenerFor(const sockaddr_storage& address,
                                                    uint16_t port) {
  const Endpoint endpoint = EndpointOf(address);
  if (endpoint.family == AF_UNSPEC || !Open()) return std::nullopt;
  Request request = RequestFor(endpoint.family, 0);
  request.body.id.idiag_sport = htons(port);
  std::copy(endpoint.address.begin(), endpoint.address.end(), request.body.id.idiag_src);
  std::optional<TcpListener> found;
  const int error = Exchange(netlink_.get(), request, [&](const inet_diag_msg& answer) {
    if (answer.idiag_state == TCP_LISTEN) found = ListeningIn(answer);
  });
  // An answer that came too late must not be taken for that of the next request.
  if (error != 0 && error != ENOENT) netlink_ = OwnedFd();
  return error == 0 ? found : std::nullopt;
}

absl::StatusOr<std::vector<TcpListener>> SocketQuery::ListenersOn(uint16_t port) {
  std::vector<TcpListener> found;
  if (!Open()) {
    if (!std::exchange(has_read_proc_, false)) {
      return absl::UnavailableError("the kernel does not tell");
    }
    const int error = ReadProcSockets(ProcSockets::kListening, [&](const ProcSocket& socket) {
      if (socket.here.port == htons(port)) {
        found.push_back({.cookie = 0, .uid = KnownUid(socket.uid)});
      }
      return true;
    });
    if (error != 0) return absl::UnavailableError(ErrorText(error));
    return found;
  }
  for (const sa_family_t family : {sa_family_t{AF_INET}, sa_family_t{AF_INET6}}) {
    Request request = RequestFor(family, NLM_F_DUMP);
    request.body.id.idiag_sport = htons(port);
    const int error = Exchange(netlink_.get(), request, [&](const inet_diag_msg& answer) {
      if (answer.idiag_state == TCP_LISTEN) found.push_back(ListeningIn(answer));
    });
    if (error == 0 || (family == AF_INET6 && IsWithoutFamily(error))) continue;
    netlink_ = OwnedFd();
    return absl::UnavailableError(ErrorText(error));
  }
  return found;
}

uint32_t SocketQuery::PeerUid(int fd) {
  sockaddr_storage there = {};
  sockaddr_storage here = {};
  socklen_t there_size = sizeof(there);
  socklen_t here_size = sizeof(here);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&there), &there_size) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&here), &here_size) != 0) {
    return kUnknownUid;
  }
  const Endpoint source = EndpointOf(there);
  const Endpoint destination = EndpointOf(here);
  if (source.family == AF_UNSPEC || source.family != destination.family) return kUnknownUid;
  if (!Open()) {
    const int64_t begin_ns = MonotonicNs();
    has_read_proc_ = fallback_ == Fallback::kProc && begin_ns >= next_proc_ns_;
    if (!has_read_proc_) return kUnknownUid;
    const uint32_t proc_uid = PeerUidFromProc(source, destination);
    const int64_t end_ns = MonotonicNs();
    // ListenersOn() takes about as long.
    next_proc_ns_ = end_ns + 2 * kProcPauseFactor * (end_ns - begin_ns);
    return proc_uid;
  }
  // A socket of the same numbers in this process's own network namespace is another one.
  if (NetworkNamespace(fd) != network_namespace_) return kUnknownUid;
  Request request = RequestFor(source.family, 0);
  request.body.id.idiag_sport = source.port;
  request.body.id.idiag_dport = destination.port;
  request.body.id.idiag_if = source.scope_id;
  std::copy(source.address.begin(), source.address.end(), request.body.id.idiag_src);
  std::copy(destination.address.begin(), destination.address.end(), request.body.id.idiag_dst);
  uint32_t uid = kUnknownUid;
  const int error = Exchange(netlink_.get(), request, [&](const inet_diag_msg& answer) {
    // A socket that its process has closed is said to be root's; it has no inode any more.
    if (answer.idiag_state == TCP_ESTABLISHED && answer.idiag_inode != 0) {
      uid = KnownUid(answer.idiag_uid);
    }
  });
  if (error != 0 && error != ENOENT) netlink_ = OwnedFd();
  return error == 0 ? uid : kUnknownUid;
}

}  // namespace evermap
