#include "daemon/names/proof.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/host/address.h"
#include "daemon/host/loopback_probe.h"

namespace evermap {
namespace {

bool HaveCookies(const Registration& orphan, const TcpListener& socket) {
  return orphan.listener_cookie != 0 && socket.cookie != 0;
}

// Of the sockets that listen on the orphan's port those that may be its node's.
std::vector<TcpListener> ItsSockets(const Registration& orphan,
                                    absl::Span<const TcpListener> listeners) {
  std::vector<TcpListener> its;
  for (const TcpListener& socket : listeners) {
    const bool may_be_owners = orphan.owner_uid == kUnknownUid || socket.uid == kUnknownUid ||
                               socket.uid == orphan.owner_uid;
    if (HaveCookies(orphan, socket) ? socket.cookie == orphan.listener_cookie : may_be_owners) {
      its.push_back(socket);
    }
  }
  return its;
}

// The user of all these sockets; kUnknownUid when they are several users', or it is not known.
uint32_t UserOf(absl::Span<const TcpListener> sockets) {
  if (sockets.empty()) return kUnknownUid;
  const uint32_t uid = sockets.front().uid;
  const bool is_one = std::all_of(sockets.begin(), sockets.end(),
                                  [uid](const TcpListener& one) { return one.uid == uid; });
  return is_one ? uid : kUnknownUid;
}

bool IsOwners(const Newcomer& newcomer, uint32_t owner_uid) {
  return newcomer.uid != kUnknownUid && newcomer.uid == owner_uid;
}

// Of a node whose socket is not known, so that whether it is there says nothing.
bool IsNodeWithoutSocket(const Registration& orphan, const Newcomer& newcomer) {
  return orphan.listener_cookie == 0 && newcomer.port == orphan.port &&
         IsOwners(newcomer, orphan.owner_uid);
}

}  // namespace

Verdict Judge(const Registration& orphan, const Newcomer& newcomer,
              absl::Span<const TcpListener> listeners) {
  if (IsNodeWithoutSocket(orphan, newcomer)) return Verdict::kAdopt;
  const std::vector<TcpListener> its = ItsSockets(orphan, listeners);
  if (its.empty()) return Verdict::kReplace;
  const uint32_t owner_uid = orphan.owner_uid != kUnknownUid ? orphan.owner_uid : UserOf(its);
  if (newcomer.port != orphan.port || !IsOwners(newcomer, owner_uid)) return Verdict::kRefuse;
  const bool is_same_socket = orphan.listener_cookie == 0 || HaveCookies(orphan, its.front());
  return is_same_socket ? Verdict::kAdopt : Verdict::kReplace;
}

Verdict Proof::Of(const Registration& orphan, uint16_t port, int fd) {
  const Newcomer newcomer = {.port = port, .uid = query_.PeerUid(fd)};
  if (IsNodeWithoutSocket(orphan, newcomer)) return Verdict::kAdopt;
  // Most nodes listen on all addresses, or on the one from which they register. That one socket is
  // found at once; only when it is not the node's all sockets are looked at.
  if (orphan.listener_cookie != 0) {
    const auto listener = query_.ListenerFor(PeerAddress(fd), orphan.port);
    if (listener.has_value() && listener->cookie == orphan.listener_cookie) {
      return Judge(orphan, newcomer, absl::MakeConstSpan(&*listener, 1));
    }
  }
  const absl::StatusOr<std::vector<TcpListener>> listeners = query_.ListenersOn(orphan.port);
  if (listeners.ok()) return Judge(orphan, newcomer, *listeners);
  return ProbeLoopback(orphan.port) == ProbeResult::kRefused ? Verdict::kReplace : Verdict::kRefuse;
}

}  // namespace evermap
