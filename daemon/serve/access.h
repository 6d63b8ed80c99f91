// Who may connect, and who may ask for what: every check of a requester, except those of names,
// which belong to the registrar (names/registrar.h, names/reservations.h). Whose requests each verb
// takes is a column of its table (verb_table.h).
//
// Thread safety: an Access is immutable.
#ifndef EVERMAP_DAEMON_SERVE_ACCESS_H_
#define EVERMAP_DAEMON_SERVE_ACCESS_H_

#include "daemon/serve/shared.h"
#include "daemon/serve/verb_table.h"
#include "registry/registry.h"

namespace evermap {

class Access {
 public:
  // `options` outlives this.
  explicit Access(const ServeOptions& options) : options_(options) {}

  // Whether the peer of `fd` may have a connection: it is in one of the networks that -allow names,
  // or on this host, or -allow was not given.
  bool MayConnect(int fd) const;

  // Whether the peer of `fd` belongs to the audience of `verb`. Costs a system call or two where
  // the audience is not everybody.
  bool MayAsk(Verb verb, int fd) const;

  // Whether a KILL request of a peer that may ask for it ends the mapper: no node is registered, or
  // -relaxed_command_check was given. Otherwise the request is answered with a refusal.
  bool MayEndMapper(const Registry& registry) const {
    return options_.relaxed_command_check || registry.live_count() == 0;
  }

 private:
  const ServeOptions& options_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_ACCESS_H_
