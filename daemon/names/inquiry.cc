#include "daemon/names/inquiry.h"

#include <sys/socket.h>

#include <utility>

#include "absl/status/statusor.h"
#include "registry/base/clock.h"

namespace evermap {

Inquiry::Inquiry(Registry& registry, const Custody& custody, Timers& timers)
    : registry_(registry),
      custody_(custody),
      users_(timers, [this] { FindUsers(); }),
      search_(timers, [this] { FindDistributionSockets(); }) {}

void Inquiry::Add(const Registration& node) {
  const RegistrationRef ref = {node.slot, node.id};
  const uint64_t cookie = DistributionSocketOf(node);
  if (cookie != 0) {
    registry_.Amend(ref.slot, ref.id, {.listener_cookie = cookie});
  } else {
    SearchDistributionSocket(ref);
  }
  AskForUser(ref);
}

uint64_t Inquiry::DistributionSocketOf(const Registration& node) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  const int fd = custody_.DescriptorOf(node.slot);
  if (fd < 0 || getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return 0;
  return socket_query_.ListenerCookie(peer, node.port);
}

void Inquiry::SearchDistributionSocket(RegistrationRef node) {
  unknown_sockets_.push_back(node);
  search_.PlanUnlessPlanned(next_search_ms_);
}

void Inquiry::FindDistributionSockets() {
  const absl::StatusOr<Listeners> listeners = ReadListeners();
  for (const RegistrationRef node : std::exchange(unknown_sockets_, {})) {
    if (!listeners.ok() || !registry_.ReadSlot(node.slot, found_) || found_.id != node.id) continue;
    const uint64_t cookie = listeners->CookieOf(found_.port);
    if (cookie != 0) registry_.Amend(node.slot, node.id, {.listener_cookie = cookie});
  }
  next_search_ms_ = MonotonicCoarseMs() + kSearchIntervalMs;
}

void Inquiry::AskForUser(RegistrationRef node) {
  if (unknown_users_.size() >= kUnknownUsersMax) return;
  unknown_users_.push_back({node, MonotonicCoarseMs() + kUserDelayMs});
  users_.PlanUnlessPlanned(unknown_users_.front().due_ms);
}

void Inquiry::FindUsers() {
  const int64_t now_ms = MonotonicCoarseMs();
  for (int i = 0; i < kUsersPerTurn; ++i) {
    if (unknown_users_.empty() || unknown_users_.front().due_ms > now_ms) break;
    const RegistrationRef node = unknown_users_.front().node;
    unknown_users_.pop_front();
    const int fd = custody_.DescriptorOf(node.slot);
    // When the connection was closed meanwhile, and its number is another connection's, the
    // registration has ended before, and nothing is amended.
    if (fd >= 0) {
      registry_.Amend(node.slot, node.id, {.owner_uid = socket_query_.PeerUid(fd)});
    }
  }
  if (!unknown_users_.empty()) users_.Plan(unknown_users_.front().due_ms);
}

}  // namespace evermap
