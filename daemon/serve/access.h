// Who may connect, and who may ask for what: every check of a requester, except those of names,
// which belong to the registrar (names/registrar.h, names/reservations.h).
//
// Thread safety: an Access is immutable.
#ifndef EVERMAP_DAEMON_SERVE_ACCESS_H_
#define EVERMAP_DAEMON_SERVE_ACCESS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <variant>

#include "daemon/serve/shared.h"
#include "daemon/wire/protocol.h"
#include "registry/counters.h"
#include "registry/registry.h"

namespace evermap {

// The requests of the protocol, in the order of the alternatives of protocol::Request.
enum class Verb : uint8_t { kAlive2, kPort2, kNames, kDump, kKill, kStop };

enum class Audience : uint8_t {
  kEverybody,            // everybody who may connect
  kThisHost,             // peers on this host
  kThisHostWhenRelaxed,  // peers on this host, and only with -relaxed_command_check
};

struct VerbRow {
  Verb verb;
  char code;  // the first byte of the body
  std::string_view name;
  Audience audience;
  // What counts a request that is closed without a reply because its peer may not ask.
  Counter WorkerStatistics::*refused;
};

inline constexpr std::array<VerbRow, std::variant_size_v<protocol::Request>> kVerbs = {{
    {Verb::kAlive2, 'x', "ALIVE2", Audience::kThisHost, &WorkerStatistics::alive2_not_local},
    {Verb::kPort2, 'z', "PORT2", Audience::kEverybody, nullptr},
    {Verb::kNames, 'n', "NAMES", Audience::kEverybody, nullptr},
    {Verb::kDump, 'd', "DUMP", Audience::kThisHost, &WorkerStatistics::closed_malformed},
    {Verb::kKill, 'k', "KILL", Audience::kThisHost, &WorkerStatistics::closed_malformed},
    {Verb::kStop, 's', "STOP", Audience::kThisHostWhenRelaxed, &WorkerStatistics::closed_malformed},
}};

constexpr const VerbRow& RowOf(Verb verb) { return kVerbs[static_cast<size_t>(verb)]; }
inline Verb VerbOf(const protocol::Request& request) { return static_cast<Verb>(request.index()); }

template <Verb verb, typename Request>
inline constexpr bool kIsRequestOf =
    RowOf(verb).verb
    == verb&& std::is_same_v<
           std::variant_alternative_t<static_cast<size_t>(verb), protocol::Request>, Request>;
static_assert(kIsRequestOf<Verb::kAlive2, protocol::Alive2Request>);
static_assert(kIsRequestOf<Verb::kPort2, protocol::Port2Request>);
static_assert(kIsRequestOf<Verb::kNames, protocol::NamesRequest>);
static_assert(kIsRequestOf<Verb::kDump, protocol::DumpRequest>);
static_assert(kIsRequestOf<Verb::kKill, protocol::KillRequest>);
static_assert(kIsRequestOf<Verb::kStop, protocol::StopRequest>);

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
