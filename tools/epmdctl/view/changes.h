// What happened between two looks at a registry.
//
//   const RegistryState before = Capture(view);
//   ...
//   for (const Change& change : Changes(before, Capture(view))) Show(change);
//
// Only CaptureMapper() and Capture() read anything; the rest is pure. A node that came and went
// between the two looks is told by the last state of its name: that it registered and left is seen,
// but not how often.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_CHANGES_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_CHANGES_H_

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/status.h"

namespace evermap {

struct NodeState {
  std::string name;
  uint16_t port = 0;
  uint32_t creation = 0;
  RegistrationState state = RegistrationState::kLive;
  int64_t since_unix_ns = 0;
  int64_t left_unix_ns = 0;
};

struct RegistryState {
  // The key is the id and the time of registration, because a registry that was removed and made
  // anew counts its ids from the beginning.
  std::map<std::pair<uint64_t, int64_t>, NodeState> nodes;
  uint64_t generation = 0;
  MapperStatus mapper;
  bool mapper_runs = false;
  UpgradeStatus upgrade;
};

struct Change {
  enum class Kind : uint8_t {
    kRegistered,
    kLeft,
    kOrphaned,     // the mapper lost its connection
    kAdopted,      // it has one again
    kOrphanEnded,  // it was given up
    kMapperStarted,
    kMapperStopped,
    kUpgrade,  // began, or came to an outcome
  };
  Kind kind = Kind::kRegistered;
  int64_t unix_ns = 0;
  NodeState node = {};         // of the first five kinds
  MapperStatus mapper = {};    // of the two of a mapper
  uint32_t previous_pid = 0;   // kMapperStarted: the mapper that it replaced directly; 0: none
  UpgradeStatus upgrade = {};  // kUpgrade
};

// Fills in what the mapper says of itself. That may change while the generation of the registry
// does not, so it is read at every look.
void CaptureMapper(const RegistryView& view, RegistryState& state);
RegistryState Capture(const RegistryView& view);

// The changes in the order in which they happened. `now_unix_ns`: the time of changes that the
// registry keeps no time of.
std::vector<Change> Changes(const RegistryState& before, const RegistryState& after,
                            int64_t now_unix_ns);

// "registered", "left", "orphaned", "adopted", "orphan_ended", "mapper_started", "mapper_stopped",
// "upgrade".
const char* ChangeName(Change::Kind kind);
// The change in words, without its time.
std::string ChangeText(const Change& change);
// {"time", "event", ...}
nlohmann::json ChangeJson(const Change& change);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_CHANGES_H_
