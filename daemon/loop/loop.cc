#include "daemon/loop/loop.h"

#include <sys/socket.h>

#include <cerrno>

#include "daemon/host/uncancelled.h"
#include "daemon/loop/accept_errors.h"

namespace evermap {

std::optional<absl::Span<const std::byte>> ReceiveNow(int fd, absl::Span<std::byte> buffer) {
  ssize_t received;
  do {
    received = uncancelled::Recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received < 0 && (errno == EAGAIN || IsShortage(errno))) return std::nullopt;
  return absl::MakeConstSpan(buffer.data(), received > 0 ? static_cast<size_t>(received) : 0);
}

}  // namespace evermap
