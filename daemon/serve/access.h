// Who may connect, and who may ask for what: every check of a requester, except those of names,
// which belong to the registrar (names/registrar.h, names/reservations.h). The rules are in
// names/rights.h; which right each verb needs is a column of its table (verb_table.h).
//
// Thread safety: an Access belongs to one worker. The options change only while that pauses.
#ifndef EVERMAP_DAEMON_SERVE_ACCESS_H_
#define EVERMAP_DAEMON_SERVE_ACCESS_H_

#include <string_view>

#include "daemon/host/sock_diag.h"
#include "daemon/names/rights.h"
#include "daemon/serve/shared.h"
#include "daemon/serve/verb_table.h"
#include "registry/registry.h"

namespace evermap {

class Access {
 public:
  // `shared` outlives this.
  explicit Access(Shared& shared) : shared_(shared) {}

  // Whether the peer of `fd` has the right. Costs nothing where everybody has it; otherwise a system
  // call or two, and a question to the kernel where users have it.
  bool Has(Right right, int fd) {
    const Origins& origins = shared_.options.rights.Of(right);
    return origins.everybody || IsAmong(origins, fd);
  }

  // Whether the peer may register a node of this name. Of a name that has rules of its own, only
  // whether it is on this host: the registrar knows for whom it is.
  bool MayRegister(std::string_view name, int fd);

  // Whether a KILL request of a peer that may ask for it ends the mapper: no node is registered, or
  // -relaxed_command_check was given. Otherwise the request is answered with a refusal.
  bool MayEndMapper(const Registry& registry) const {
    return shared_.options.relaxed_command_check || registry.live_count() == 0;
  }

  // Logs that the peer of `fd` was refused, if it is time for that.
  void LogRefusal(Right right, int fd);

 private:
  bool IsAmong(const Origins& origins, int fd);

  Shared& shared_;
  // Each request may ask, and must not cost what /proc costs.
  SocketQuery socket_query_{SocketQuery::Fallback::kNone};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_ACCESS_H_
