// The verbs: one row for each request of the protocol, with all that differs between them but the
// answer (verbs.h).
//
// A new verb is a struct and an alternative of protocol::Request, with its code and its decoding
// (wire/protocol.h); a value of Verb and a row here; and a member Verbs::Decide(). A row that is
// forgotten, or not in its place, does not compile.
//
// Thread safety: constants.
#ifndef EVERMAP_DAEMON_SERVE_VERB_TABLE_H_
#define EVERMAP_DAEMON_SERVE_VERB_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>

#include "daemon/wire/protocol.h"
#include "registry/counters.h"

namespace evermap {

// In the order of the alternatives of protocol::Request.
enum class Verb : uint8_t { kAlive2, kPort2, kNames, kDump, kKill, kStop };

enum class Audience : uint8_t {
  kEverybody,            // everybody who may connect
  kThisHost,             // peers on this host
  kThisHostWhenRelaxed,  // peers on this host, and only with -relaxed_command_check
};

struct VerbRow {
  Verb verb;
  uint8_t code;  // the first byte of the body
  std::string_view name;
  Audience audience;
  // What counts a request that is closed without a reply because its peer may not ask; null where
  // everybody may.
  Counter WorkerStatistics::*refused;
};

inline constexpr std::array<VerbRow, std::variant_size_v<protocol::Request>> kVerbs = {{
    {Verb::kAlive2, protocol::Alive2Request::kCode, "ALIVE2", Audience::kThisHost,
     &WorkerStatistics::alive2_not_local},
    {Verb::kPort2, protocol::Port2Request::kCode, "PORT2", Audience::kEverybody, nullptr},
    {Verb::kNames, protocol::NamesRequest::kCode, "NAMES", Audience::kEverybody, nullptr},
    {Verb::kDump, protocol::DumpRequest::kCode, "DUMP", Audience::kThisHost,
     &WorkerStatistics::closed_malformed},
    {Verb::kKill, protocol::KillRequest::kCode, "KILL", Audience::kThisHost,
     &WorkerStatistics::closed_malformed},
    {Verb::kStop, protocol::StopRequest::kCode, "STOP", Audience::kThisHostWhenRelaxed,
     &WorkerStatistics::stop_refused},
}};

constexpr const VerbRow& RowOf(Verb verb) { return kVerbs[static_cast<size_t>(verb)]; }
inline Verb VerbOf(const protocol::Request& request) { return static_cast<Verb>(request.index()); }

// Whether row i is that of verb i and of alternative i. A row that was left out is all zeros, which
// would let everybody ask; its code says so, since no request has the code 0.
template <size_t... kIndices>
constexpr bool AreRowsInPlace(std::index_sequence<kIndices...>) {
  return (
      (kVerbs[kIndices].verb == static_cast<Verb>(kIndices) && kVerbs[kIndices].code != 0 &&
       kVerbs[kIndices].code == std::variant_alternative_t<kIndices, protocol::Request>::kCode &&
       !kVerbs[kIndices].name.empty() &&
       (kVerbs[kIndices].audience == Audience::kEverybody) ==
           (kVerbs[kIndices].refused == nullptr)) &&
      ...);
}
static_assert(AreRowsInPlace(std::make_index_sequence<kVerbs.size()>()),
              "each alternative of protocol::Request has its row of kVerbs, in the same order");

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_VERB_TABLE_H_
