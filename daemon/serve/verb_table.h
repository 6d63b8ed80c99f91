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

#include "daemon/names/rights.h"
#include "daemon/wire/protocol.h"
#include "registry/counters.h"

namespace evermap {

// In the order of the alternatives of protocol::Request.
enum class Verb : uint8_t { kAlive2, kPort2, kNames, kDump, kKill, kStop };

struct VerbRow {
  Verb verb;
  uint8_t code;  // the first byte of the body
  std::string_view name;
  Right right;  // that who asks must have
  // What counts a request of somebody who has not.
  Counter WorkerStatistics::*refused;
};

inline constexpr std::array<VerbRow, std::variant_size_v<protocol::Request>> kVerbs = {{
    {Verb::kAlive2, protocol::Alive2Request::kCode, "ALIVE2", Right::kRegister,
     &WorkerStatistics::alive2_not_local},
    {Verb::kPort2, protocol::Port2Request::kCode, "PORT2", Right::kLookup,
     &WorkerStatistics::port2_refused},
    {Verb::kNames, protocol::NamesRequest::kCode, "NAMES", Right::kList,
     &WorkerStatistics::names_refused},
    {Verb::kDump, protocol::DumpRequest::kCode, "DUMP", Right::kDump,
     &WorkerStatistics::dump_refused},
    {Verb::kKill, protocol::KillRequest::kCode, "KILL", Right::kKill,
     &WorkerStatistics::kill_refused},
    {Verb::kStop, protocol::StopRequest::kCode, "STOP", Right::kStop,
     &WorkerStatistics::stop_refused},
}};

constexpr const VerbRow& RowOf(Verb verb) { return kVerbs[static_cast<size_t>(verb)]; }
inline Verb VerbOf(const protocol::Request& request) { return static_cast<Verb>(request.index()); }

// Whether row i is that of verb i and of alternative i. A row that was left out is all zeros, which
// its code says, since no request has the code 0.
template <size_t... kIndices>
constexpr bool AreRowsInPlace(std::index_sequence<kIndices...>) {
  return (
      (kVerbs[kIndices].verb == static_cast<Verb>(kIndices) && kVerbs[kIndices].code != 0 &&
       kVerbs[kIndices].code == std::variant_alternative_t<kIndices, protocol::Request>::kCode &&
       !kVerbs[kIndices].name.empty() && kVerbs[kIndices].refused != nullptr) &&
      ...);
}
static_assert(AreRowsInPlace(std::make_index_sequence<kVerbs.size()>()),
              "each alternative of protocol::Request has its row of kVerbs, in the same order");

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_VERB_TABLE_H_
