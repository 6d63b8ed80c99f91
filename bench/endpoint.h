// Where a mapper listens, and how the bench connects to it.
#ifndef EVERMAP_BENCH_ENDPOINT_H_
#define EVERMAP_BENCH_ENDPOINT_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace evermap::bench {

// A file descriptor that is closed with its owner.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void Reset();

 private:
  int fd_ = -1;
};

// An IPv4 or IPv6 address and a port.
class Endpoint {
 public:
  // kInvalidArgument when `address` is not a numeric IP address.
  static absl::StatusOr<Endpoint> Parse(const std::string& address, uint16_t port);

  int family() const { return storage_.ss_family; }
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  // Whether it is in 127.0.0.0/8, where a client may take any address of that network as its own.
  bool IsLoopback4() const;
  const std::string& text() const { return text_; }  // "127.0.0.1 port 4369"

 private:
  Endpoint() = default;
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
  std::string text_;
};

// A connected blocking socket.
absl::StatusOr<UniqueFd> Connect(const Endpoint& endpoint);

// Allows this process as many file descriptors as the hard limit does; returns how many that is.
uint64_t RaiseDescriptorLimit();

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_ENDPOINT_H_
