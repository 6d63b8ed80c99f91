#include "daemon/serve/access.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/host/address.h"
#include "daemon/host/log.h"

namespace evermap {

bool Access::IsAmong(const Origins& origins, int fd) {
  if (origins.host && IsLocalPeer(fd)) return true;
  if (origins.loopback || !origins.networks.empty()) {
    const sockaddr_storage peer = PeerAddress(fd);
    if (origins.loopback && IsLoopback(peer)) return true;
    if (std::any_of(origins.networks.begin(), origins.networks.end(),
                    [&peer](const Network& network) { return network.Contains(peer); })) {
      return true;
    }
  }
  if (origins.users.empty() || !IsLocalPeer(fd)) return false;
  return origins.HasUser(socket_query_.PeerUid(fd));
}

bool Access::MayRegister(std::string_view name, int fd) {
  if (shared_.reservations.HolderOf(name) != nullptr) return IsLocalPeer(fd);
  return Has(Right::kRegister, fd);
}

void Access::LogRefusal(Right right, int fd) {
  const sockaddr_storage peer = PeerAddress(fd);
  std::string who = AddressText(peer);
  const std::string verb(RowOf(right).verb);
  const std::string key = absl::StrCat(verb, " ", who);
  if (!shared_.log_refused.WouldAllow(key)) {
    // It is counted there with the others that are not logged.
    uint64_t suppressed = 0;
    shared_.log_refused.Allow(key, suppressed);
    return;
  }
  if (!shared_.options.rights.Of(right).users.empty() && IsLocalPeer(fd)) {
    const uint32_t uid = socket_query_.PeerUid(fd);
    absl::StrAppend(
        &who, uid == kUnknownUid ? ", a user who cannot be told" : absl::StrCat(", user ", uid));
  }
  LogLimited(shared_.log_refused, key, Severity::kWarning,
             "%s is refused to %s: %s gives it to them; told once a minute", verb, who,
             right == Right::kStop ? "neither -access nor -relaxed_command_check"
                                   : "no rule of -access or -allow");
}

}  // namespace evermap
