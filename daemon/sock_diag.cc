#include "daemon/sock_diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace evermap {
namespace {

// Netlink answers at once; this is for a kernel that does not.
constexpr timeval kAnswerTimeout = {1, 0};
constexpr size_t kAnswerSizeMax = 32768;

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

// Sends a request and calls `visit` for each socket in the answer. Returns an errno.
template <typename Visit>
int Exchange(int netlink, const Request& request, Visit visit) {
  if (send(netlink, &request, sizeof(request), 0) < 0) return errno;
  alignas(nlmsghdr) std::array<char, kAnswerSizeMax> buffer;
  while (true) {
    const ssize_t got = recv(netlink, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? errno : EIO;
    auto left = static_cast<uint32_t>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type == NLMSG_DONE) return 0;
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

}  // namespace

void Listeners::Add(uint16_t port, uint64_t cookie) {
  cookies_.insert(cookie);
  const auto [entry, is_first] = by_port_.emplace(port, cookie);
  if (!is_first && entry->second != cookie) entry->second = 0;
}

uint64_t Listeners::CookieOf(uint16_t port) const {
  const auto found = by_port_.find(port);
  return found == by_port_.end() ? 0 : found->second;
}

absl::StatusOr<Listeners> ReadListeners() {
  const OwnedFd netlink = OpenNetlink();
  if (!netlink.valid()) return absl::UnavailableError(ErrorText(errno));
  Listeners listeners;
  for (const sa_family_t family : {sa_family_t{AF_INET}, sa_family_t{AF_INET6}}) {
    const int error =
        Exchange(netlink.get(), RequestFor(family, NLM_F_DUMP), [&](const inet_diag_msg& answer) {
          if (answer.idiag_state == TCP_LISTEN) {
            listeners.Add(ntohs(answer.id.idiag_sport), CookieIn(answer));
          }
        });
    // A kernel without IPv6 has none of its sockets.
    if (error != 0 && family == AF_INET) return absl::UnavailableError(ErrorText(error));
  }
  return listeners;
}

uint64_t ListenerQuery::CookieOf(const sockaddr_storage& address, uint16_t port) {
  if (!netlink_.valid()) netlink_ = OpenNetlink();
  if (!netlink_.valid()) return 0;
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  const bool is_v6 = address.ss_family == AF_INET6;
  const bool is_mapped = is_v6 && IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
  Request request = RequestFor(is_v6 && !is_mapped ? AF_INET6 : AF_INET, 0);
  request.body.id.idiag_sport = htons(port);
  if (is_mapped) {
    std::memcpy(request.body.id.idiag_src, v6.sin6_addr.s6_addr + 12, sizeof(in_addr));
  } else if (is_v6) {
    std::memcpy(request.body.id.idiag_src, &v6.sin6_addr, sizeof(in6_addr));
  } else if (address.ss_family == AF_INET) {
    std::memcpy(request.body.id.idiag_src, &v4.sin_addr, sizeof(in_addr));
  } else {
    return 0;
  }
  uint64_t cookie = 0;
  const int error = Exchange(netlink_.get(), request, [&](const inet_diag_msg& answer) {
    if (answer.idiag_state == TCP_LISTEN) cookie = CookieIn(answer);
  });
  // An answer that came too late must not be taken for that of the next request.
  if (error != 0 && error != ENOENT) netlink_ = OwnedFd();
  return error == 0 ? cookie : 0;
}

}  // namespace evermap
