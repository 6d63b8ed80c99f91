#include "bench/load/idle_connections.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/load/source_addresses.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap::bench {
namespace {

constexpr size_t kPerSource = 1000;
constexpr uint32_t kSourceBase = 0x7f000100;  // 127.0.1.0
constexpr absl::Duration kPatience = absl::Seconds(3);
constexpr absl::Duration kPause = absl::Milliseconds(10);

}  // namespace

absl::StatusOr<IdleConnections> IdleConnections::Open(const Endpoint& endpoint, size_t count) {
  IdleConnections idle;
  const size_t sources =
      std::clamp<size_t>((count + kPerSource - 1) / kPerSource, 1, SourceAddresses::kCountMax);
  SourceAddresses addresses(endpoint,
                            {.count = static_cast<uint32_t>(sources), .base = kSourceBase});
  for (size_t i = 0; i < count; ++i) {
    OwnedFd fd(socket(endpoint.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int error = fd.valid() ? addresses.StartConnecting(fd.get()) : errno;
    if (error != 0) {
      return absl::UnavailableError(
          absl::StrCat("idle connection ", i + 1, " of ", count, ": ", ErrorText(error)));
    }
    idle.connections_.push_back(std::move(fd));
  }
  const absl::Time deadline = absl::Now() + kPatience;
  while (idle.CountOpen() < count && absl::Now() < deadline) absl::SleepFor(kPause);
  return idle;
}

size_t IdleConnections::CountOpen() const {
  std::vector<pollfd> waiting;
  waiting.reserve(connections_.size());
  for (const OwnedFd& fd : connections_) {
    waiting.push_back({.fd = fd.get(), .events = POLLIN | POLLOUT | POLLRDHUP, .revents = 0});
  }
  if (poll(waiting.data(), waiting.size(), 0) < 0) return 0;
  return static_cast<size_t>(
      std::count_if(waiting.begin(), waiting.end(), [](const pollfd& connection) {
        return (connection.revents & POLLOUT) != 0 &&
               (connection.revents & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)) == 0;
      }));
}

}  // namespace evermap::bench
