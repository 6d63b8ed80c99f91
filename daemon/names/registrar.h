// The registrar: the one place that decides who gets a name, and where registrations end because a
// connection or a request says so.
//
//   Registrar registrar(registry, custody, reservations, registry.statistics(worker));
//   const Decision decision = registrar.Register(node, fd);
//   if (decision.outcome == Decision::Outcome::kRegistered) {
//     ... reply, then registrar.Announce(decision.registration) ...
//   }
//   ... the connection ends: registrar.End(decision.registration, fd) ...
//
// A name is given in this order: its reservation is looked at (reservations.h), then a place in
// custody is taken, then the registry is asked. Where somebody holds the name already, the holder
// is looked at before the name is refused, because a node that was stopped and started again may be
// faster than the end of its own old connection. A holder that is an orphan makes way only for a
// proof (proof.h, INV-13).
//
// The registrar decides and returns a value. It never reads from or writes to the connection of the
// node that asks, and knows neither the wire protocol nor the states of a connection.
//
// Thread safety: a Registrar belongs to one worker; several may share registry, custody and
// reservations, all of which outlive them.
#ifndef EVERMAP_DAEMON_NAMES_REGISTRAR_H_
#define EVERMAP_DAEMON_NAMES_REGISTRAR_H_

#include <cstdint>
#include <string_view>

#include "daemon/custody/custody.h"
#include "daemon/host/sock_diag.h"
#include "daemon/names/proof.h"
#include "daemon/names/registering.h"
#include "daemon/names/reservations.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

// What became of a request for a name.
struct Decision {
  enum class Outcome : uint8_t {
    kRegistered,  // the connection is in custody, and `registration` and `creation` are set
    kTaken,       // another node holds the name
    kReserved,    // the name is reserved for another user: `reserved_for` and `asking_uid` are set
    kNoDescriptors,  // as many nodes are registered as the limit of file descriptors allows
    kRegistryFull,
    kInvalid,  // the registry cannot hold this name: it is empty, too long, or has a NUL
    // The connection of `registration`, which holds the name, may be about to come from an earlier
    // mapper. To be asked again when MayDecide() that.
    kLater,
  };
  Outcome outcome = Outcome::kInvalid;
  RegistrationRef registration;
  uint32_t creation = 0;
  const Reservations::Holder* reserved_for = nullptr;  // lives as long as the reservations
  uint32_t asking_uid = kUnknownUid;  // the user who asked; kUnknownUid where he cannot be told
};

class Registrar {
 public:
  Registrar(Registry& registry, Custody& custody, const Reservations& reservations,
            WorkerStatistics& statistics)
      : registry_(registry),
        custody_(custody),
        reservations_(reservations),
        statistics_(statistics) {}

  // Registers `node` for the connection `fd`, whose cookie it fills in, and takes the connection
  // into custody. Of several that ask for one name at the same time exactly one gets it (INV-2).
  Decision Register(NodeRecord node, int fd);

  // Whether the connection of a registration of which a Decision was kLater has come, or is known
  // not to come, or the registration was ended meanwhile.
  bool MayDecide(const RegistrationRef& registration) const {
    Registration holder;
    return !IsHeld(registration, holder) || !custody_.MayCome(holder);
  }

  // Whether the registration still has its name.
  bool IsRegistered(const RegistrationRef& registration) const {
    Registration holder;
    return IsHeld(registration, holder);
  }
  // Whether the node at the other end of `fd`, which was put off, has closed it meanwhile.
  static bool HasHungUp(int fd);

  // Tells whether a registration is being made that is not in custody yet; from any thread.
  const Registering& registering() const { return registering_; }

  // Passes a new registration on to the main thread, which stores its connection for the next
  // mapper. Is called after the node has got its reply. The next mapper gives none, so a node whose
  // connection was stored earlier might wait for it for ever.
  void Announce(const RegistrationRef& registration) { custody_.Announce(registration.slot); }

  // Ends a registration, unless something else has ended it already, because its connection `fd`
  // has ended, and gives the connection up. The caller closes `fd` afterwards.
  void End(const RegistrationRef& registration, int fd);

  // Ends the orphans whose node is gone, unless a node is registered that is none: for a request
  // that asks whether any node is registered, and must not wait for Orphans::Judge().
  void EndGoneOrphans();

  // Ends whatever registration has this name, and shuts its connection down, which its worker then
  // finds closed. False when nobody has the name.
  bool EndNamed(std::string_view name);

 private:
  // Whether a reservation, which `decision` then names, keeps the name from the user behind `fd`.
  bool IsReservedForAnother(std::string_view name, int fd, Decision& decision);
  // Asks the registry, and clears away holders that have left. False when that has to be put off,
  // because the connection of the holder that `result` then names is awaited.
  bool AskRegistry(const NodeRecord& node, int fd, RegisterResult& result);
  // Whether the registration still holds its name; `holder` is then a copy of it.
  bool IsHeld(const RegistrationRef& registration, Registration& holder) const;
  // Does with `orphan` what is proved that the node behind `fd` may do (proof.h). True when `result`
  // is final: the name is adopted, or refused. False: ask the registry again.
  bool SettleOrphan(const Registration& orphan, const NodeRecord& node, int fd,
                    RegisterResult& result);

  Registry& registry_;
  Custody& custody_;
  const Reservations& reservations_;
  WorkerStatistics& statistics_;
  Registering registering_;
  // Each request for a reserved name asks, and must not cost what /proc costs.
  SocketQuery socket_query_{SocketQuery::Fallback::kNone};
  SocketQuery orphan_query_{SocketQuery::Fallback::kProc};
  Proof proof_{orphan_query_};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_REGISTRAR_H_
