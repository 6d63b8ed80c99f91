#include "bench/load/endpoint.h"

#include <arpa/inet.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

absl::StatusOr<Endpoint> Endpoint::Parse(const std::string& address, uint16_t port) {
  Endpoint endpoint;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    endpoint.size_ = sizeof v4;
    std::memcpy(&endpoint.storage_, &v4, sizeof v4);
  } else if (inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    endpoint.size_ = sizeof v6;
    std::memcpy(&endpoint.storage_, &v6, sizeof v6);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("'", address, "' is not a numeric IPv4 or IPv6 address"));
  }
  endpoint.host_ = address;
  endpoint.port_ = port;
  endpoint.text_ = absl::StrCat(address, " port ", port);
  return endpoint;
}

absl::StatusOr<Endpoint> Endpoint::ParseWithPort(std::string_view text, uint16_t default_port) {
  std::string_view address = text;
  std::string_view port_text;
  const size_t colon = text.rfind(':');
  if (text.starts_with('[')) {
    const size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat("'", std::string(text), "' lacks a ']'"));
    }
    address = text.substr(1, bracket - 1);
    if (colon > bracket && colon != std::string_view::npos) port_text = text.substr(colon + 1);
  } else if (colon != std::string_view::npos && text.find(':') == colon) {
    // One colon only: with more it is an IPv6 address without a port.
    address = text.substr(0, colon);
    port_text = text.substr(colon + 1);
  }
  uint32_t port = default_port;
  if (!port_text.empty() &&
      (!absl::SimpleAtoi(absl::string_view(port_text.data(), port_text.size()), &port) ||
       port < 1 || port > UINT16_MAX)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", std::string(port_text), "' is not a port from 1 to ", UINT16_MAX));
  }
  return Parse(address.empty() ? "127.0.0.1" : std::string(address), static_cast<uint16_t>(port));
}

bool Endpoint::IsLoopback4() const {
  if (family() != AF_INET) return false;
  sockaddr_in v4{};
  std::memcpy(&v4, &storage_, sizeof v4);
  return ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

absl::StatusOr<OwnedFd> Connect(const Endpoint& endpoint) {
  OwnedFd fd(socket(endpoint.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return absl::ErrnoToStatus(errno, "no socket (with EMFILE: raise ulimit -n)");
  }
  while (connect(fd.get(), endpoint.address(), endpoint.size()) != 0) {
    if (errno != EINTR) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot connect to ", endpoint.text()));
    }
  }
  return fd;
}

uint64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : before;
}

}  // namespace evermap::bench
