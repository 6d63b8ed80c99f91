#include "bench/load/source_addresses.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

namespace evermap::bench {

int SourceAddresses::ConnectOnce(int fd) {
  const bool is_chosen = options_.count > 1 || options_.base != kDefaultBase || shift_ > 0;
  if (is_chosen && endpoint_.IsLoopback4()) {
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_addr.s_addr =
        htonl(options_.base + 1 + (turn_ % options_.count + shift_) % kCountMax);
    // The port is then chosen by connect(2), which knows that it need differ only from those of
    // connections to the same server.
    const int on = 1;
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
        bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0) {
      return errno;
    }
  }
  if (connect(fd, endpoint_.address(), endpoint_.size()) == 0 || errno == EINPROGRESS) return 0;
  return errno;
}

int SourceAddresses::StartConnecting(int fd) {
  ++turn_;
  for (uint32_t attempt = 0; attempt < kCountMax; ++attempt) {
    const int error = ConnectOnce(fd);
    if (error != EADDRNOTAVAIL || !endpoint_.IsLoopback4()) return error;
    shift_ = (shift_ + options_.count) % kCountMax;
  }
  return EADDRNOTAVAIL;
}

}  // namespace evermap::bench
