#include "daemon/names/inquiry.h"

#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "daemon/host/address.h"
#include "registry/base/clock.h"

namespace evermap {

Inquiry::Inquiry(Registry& registry, const Custody& custody, Timers& timers)
    : registry_(registry),
      custody_(custody),
      users_(timers, [this] { FindUsers(); }),
      search_(timers, [this] { FindDistributionSockets(); }) {}

void Inquiry::Add(const Registration& node) {
  const RegistrationRef ref = {node.slot, node.id};
  const int fd = custody_.DescriptorOf(node.slot);
  // When the connection was closed meanwhile, and its number is another connection's, the
  // registration has ended before, and nothing is amended.
  if (fd < 0) return;
  const uint32_t uid = socket_query_.PeerUid(fd);
  const auto listener = socket_query_.ListenerFor(PeerAddress(fd), node.port);
  Amendment amendment;
  if (uid != kUnknownUid) amendment.owner_uid = uid;
  if (listener.has_value() && listener->uid == uid) amendment.listener_cookie = listener->cookie;
  if (amendment.owner_uid.has_value() || amendment.listener_cookie.has_value()) {
    registry_.Amend(ref.slot, ref.id, amendment);
  }
  if (!amendment.listener_cookie.has_value()) SearchDistributionSocket(ref);
}

void Inquiry::SearchDistributionSocket(RegistrationRef node) {
  unknown_sockets_.push_back(node);
  search_.PlanUnlessPlanned(next_search_ms_);
}

void Inquiry::FindDistributionSockets() {
  const absl::StatusOr<Listeners> listeners = ReadListeners();
  for (const RegistrationRef node : std::exchange(unknown_sockets_, {})) {
    if (!listeners.ok() || !registry_.ReadSlot(node.slot, found_) || found_.id != node.id) continue;
    const std::optional<TcpListener> only = listeners->OnlyOneOn(found_.port);
    if (!only.has_value()) continue;
    // Of an orphan whose user is not known there is nobody else whom the socket could be compared
    // with: its port has to do. A live registration without a known user is of another host or
    // network namespace, so that no socket here is its.
    const bool is_its = found_.owner_uid != kUnknownUid
                            ? only->uid == found_.owner_uid
                            : found_.state == RegistrationState::kOrphaned;
    if (is_its) registry_.Amend(node.slot, node.id, {.listener_cookie = only->cookie});
  }
  next_search_ms_ = MonotonicCoarseMs() + kSearchIntervalMs;
}

void Inquiry::AskForUser(RegistrationRef node) {
  unknown_users_.push_back(node);
  users_.PlanUnlessPlanned(MonotonicCoarseMs());
}

void Inquiry::FindUsers() {
  for (int i = 0; i < kUsersPerTurn && !unknown_users_.empty(); ++i) {
    const RegistrationRef node = unknown_users_.front();
    unknown_users_.pop_front();
    const int fd = custody_.DescriptorOf(node.slot);
    const uint32_t uid = fd >= 0 ? socket_query_.PeerUid(fd) : kUnknownUid;
    if (uid != kUnknownUid) registry_.Amend(node.slot, node.id, {.owner_uid = uid});
  }
  if (!unknown_users_.empty()) users_.Plan(MonotonicCoarseMs());
}

}  // namespace evermap
