// Where a mapper listens, and how the bench connects to it.
#ifndef EVERMAP_BENCH_LOAD_ENDPOINT_H_
#define EVERMAP_BENCH_LOAD_ENDPOINT_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {

// An IPv4 or IPv6 address and a port.
class Endpoint {
 public:
  // kInvalidArgument when `address` is not a numeric IP address.
  static absl::StatusOr<Endpoint> Parse(const std::string& address, uint16_t port);
  // "ADDRESS", "ADDRESS:PORT", "[ADDRESS6]:PORT", or ":PORT" for 127.0.0.1; without a port it is
  // `default_port`.
  static absl::StatusOr<Endpoint> ParseWithPort(std::string_view text, uint16_t default_port);

  int family() const { return storage_.ss_family; }
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  const std::string& host() const { return host_; }  // "127.0.0.1"
  uint16_t port() const { return port_; }
  // Whether the address is in 127.0.0.0/8, where a client may bind any address of that network.
  bool IsLoopback4() const;
  const std::string& text() const { return text_; }  // "127.0.0.1 port 4369"

 private:
  Endpoint() = default;
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
  std::string host_;
  uint16_t port_ = 0;
  std::string text_;
};

// A connected blocking socket. With EMFILE the message says how to raise the limit.
absl::StatusOr<OwnedFd> Connect(const Endpoint& endpoint);

// Raises the soft limit of file descriptors to the hard one, and returns it; 0 when it cannot be
// read. The mapper has a function of this name too (daemon/host), which stops at the size of its
// own tables; the load has none, and the arrows between rooms do not lead there.
uint64_t RaiseDescriptorLimit();

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_LOAD_ENDPOINT_H_
