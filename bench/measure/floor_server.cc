#include "bench/measure/floor_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {
namespace {

constexpr int kBacklog = 4096;
constexpr size_t kRequestSizeMax = 4096;
constexpr std::array<char, 2> kNotRegistered = {'w', 1};

}  // namespace

absl::StatusOr<OwnedFd> ListenForFloor(const Endpoint& endpoint) {
  OwnedFd listener(socket(endpoint.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (!listener.valid() ||
      setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(listener.get(), endpoint.address(), endpoint.size()) != 0 ||
      listen(listener.get(), kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", endpoint.text()));
  }
  return listener;
}

absl::Status ServeFloor(int listener) {
  std::array<std::byte, kRequestSizeMax> request;
  while (true) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return absl::ErrnoToStatus(errno, "cannot accept");
    }
    if (recv(fd, request.data(), request.size(), 0) > 0) {
      send(fd, kNotRegistered.data(), kNotRegistered.size(), MSG_MORE | MSG_NOSIGNAL);
    }
    close(fd);
  }
}

}  // namespace evermap::bench
