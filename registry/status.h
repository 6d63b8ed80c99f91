// What the mapper says of itself in the registry, so that tools can tell it without asking it, and
// also when it does not run: who it is, and how the last upgrade went.
//
// Depends on nothing but the standard library and the kernel.
#ifndef EVERMAP_REGISTRY_STATUS_H_
#define EVERMAP_REGISTRY_STATUS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace evermap {

// Longer texts are cut. Control characters in any of them read as '?'.
inline constexpr size_t kStatusVersionSizeMax = 32;
inline constexpr size_t kStatusLoopSizeMax = 320;
inline constexpr size_t kStatusCustodySizeMax = 104;
inline constexpr size_t kStatusUpgradeTextSizeMax = 255;

// All zero and empty when no mapper has ever said anything.
struct MapperStatus {
  uint32_t pid = 0;
  uint64_t start_ticks = 0;  // ProcessStartTicks(pid): tells a pid that was used again
  int64_t started_unix_ns = 0;
  uint32_t workers = 0;
  std::string version = {};
  std::string loop = {};     // the event loop, and why that one
  std::string custody = {};  // who keeps the connections
  uint64_t descriptors_max = 0;
};

struct UpgradeStatus {
  enum class Outcome : uint8_t {
    kNone,  // there has been no upgrade
    kRunning,
    kSucceeded,
    kFailed,
  };
  uint64_t number = 0;  // grows by one with each attempt
  int64_t unix_ns = 0;  // when it came to this outcome
  Outcome outcome = Outcome::kNone;
  std::string text = {};  // from which version to which, or why it failed
};

// When the process began, in clock ticks after boot (field 22 of /proc/PID/stat); 0 when there is
// none of that pid, it has ended already (a zombie), or /proc does not show it.
uint64_t ProcessStartTicks(pid_t pid);

// Whether the mapper that wrote `status` runs. A process that /proc hides from the caller (mount
// option hidepid) is taken for it. REQUIRES: the caller is in the mapper's pid namespace.
bool IsRunning(const MapperStatus& status);

namespace layout {
struct StatusNote;
}

// Notes are always read whole, and never waited for (L-12 in layout.h).
MapperStatus ReadMapperStatus(const layout::StatusNote& note);
UpgradeStatus ReadUpgradeStatus(const layout::StatusNote& note);
void WriteMapperStatus(const MapperStatus& status, layout::StatusNote& note);
void WriteUpgradeStatus(const UpgradeStatus& status, layout::StatusNote& note);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_STATUS_H_
