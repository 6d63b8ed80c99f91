#include "daemon/serve/access.h"

#include <algorithm>

#include "daemon/host/address.h"

namespace evermap {

bool Access::MayConnect(int fd) const {
  if (options_.allowed.empty()) return true;
  const sockaddr_storage peer = PeerAddress(fd);
  return std::any_of(options_.allowed.begin(), options_.allowed.end(),
                     [&peer](const Network& network) { return network.Contains(peer); }) ||
         IsLocalPeer(fd);
}

bool Access::MayAsk(Verb verb, int fd) const {
  switch (RowOf(verb).audience) {
    case Audience::kEverybody:
      return true;
    case Audience::kThisHost:
      return IsLocalPeer(fd);
    case Audience::kThisHostWhenRelaxed:
      return options_.relaxed_command_check && IsLocalPeer(fd);
  }
  return false;
}

}  // namespace evermap
