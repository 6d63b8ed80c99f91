// Whether all is well with a mapper, in one line: for status. Pure.
//
// The exit codes and the form of the line of `epmdctl status --check` are those that monitoring plugins
// have ("Monitoring Plugins Development Guidelines").
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_WELLNESS_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_WELLNESS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "registry/counter_totals.h"
#include "registry/status.h"
#include "tools/expected.h"

namespace evermap {

// A registry or a table of descriptors that is fuller than this is told, in percent.
inline constexpr uint64_t kFullPercent = 80;

// The values are the exit codes of a monitoring plugin.
enum class Wellness : uint8_t { kWell = 0, kWarning = 1, kCritical = 2, kUnknown = 3 };

struct Condition {
  bool running = false;
  MapperStatus mapper = {};
  UpgradeStatus upgrade = {};
  uint32_t live = 0;
  uint32_t orphaned = 0;
  uint32_t capacity = 0;
  uint64_t connections_now = 0;
  std::vector<ExpectedNode> expected = {};
  // What the mapper says of its settings (registry/settings_note.h), lines; empty: nothing.
  std::string refusal = {};
  std::vector<std::string> warnings = {};
  // What was counted in the last minute; nothing when the mapper does not tell.
  std::optional<CounterTotals> last_minute = {};
};

struct Diagnosis {
  Wellness wellness = Wellness::kWell;
  // What is not well, the worst first; empty when all is.
  std::vector<std::string> complaints;
};

Diagnosis JudgeWellness(const Condition& condition);

// "All is well: ..." or "Not well: ...; ...".
std::string WellnessLine(const Condition& condition, const Diagnosis& diagnosis);
// "EPMD OK - ... | nodes=3 ...".
std::string PluginLine(const Condition& condition, const Diagnosis& diagnosis);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_WELLNESS_H_
