// What happened between two looks at a registry.
//
//   const RegistryState before = Capture(view);
//   ...
//   for (const Change& change : Changes(before, Capture(view))) Show(change);
//
// Pure but for Capture(). Of what came and went between the two looks the last state of each name
// tells: that a node registered and left is seen, how often is not.
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
  // By id, and by when it registered: a registry that was removed and made anew counts ids anew.
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
    kUpgrade,  // has come to an outcome, or has begun
  };
  Kind kind = Kind::kRegistered;
  int64_t unix_ns = 0;
  NodeState node = {};         // of the first five
  MapperStatus mapper = {};    // of the next two
  uint32_t previous_pid = 0;   // kMapperStarted: whose place it took at once; 0: nobody's
  UpgradeStatus upgrade = {};  // kUpgrade
};

// Fills in what a mapper says of itself, which changes without the generation.
void CaptureMapper(const RegistryView& view, RegistryState& state);
RegistryState Capture(const RegistryView& view);

// In the order in which they happened. `now_unix_ns`: for what the registry has no time of.
std::vector<Change> Changes(const RegistryState& before, const RegistryState& after,
                            int64_t now_unix_ns);

// "registered", "left", "orphaned", "adopted", "orphan_ended", "mapper_started", "mapper_stopped",
// "upgrade".
const char* ChangeName(Change::Kind kind);
// What happened to whom, in words, without the time.
std::string ChangeText(const Change& change);
// {"time", "event", ...}
nlohmann::json ChangeJson(const Change& change);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_CHANGES_H_
