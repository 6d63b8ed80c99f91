// What a registry shows at one moment, and the difference of two such samples as text: for top.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_SAMPLE_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_SAMPLE_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "registry/activity.h"
#include "registry/counter_totals.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/status.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {

// Number of newest nodes in a sample; no screen has room for more.
inline constexpr size_t kNewestNodesMax = 100;

struct SampledNode {
  uint64_t id = 0;
  std::string name;
  uint16_t port = 0;
  bool orphaned = false;
  int64_t since_unix_ns = 0;
};

struct Sample {
  int64_t monotonic_ns = 0;
  int64_t unix_ns = 0;
  MapperStatus mapper;
  bool mapper_runs = false;
  CounterTotals counters;
  uint32_t live = 0;
  uint32_t orphaned = 0;
  uint32_t names_known = 0;
  uint32_t capacity = 0;
  std::vector<ActivityReport::Asker> askers;
  std::vector<SampledNode> newest;  // live and orphaned ones, the newest first
};

Sample TakeSample(const RegistryView& view);

// At most `lines` lines of at most `columns` columns.
std::vector<std::string> SampleLines(const Sample& before, const Sample& now, size_t columns,
                                     size_t lines, const Style& style);
// Rates per second from `before` to `now`, and the state at `now`.
nlohmann::json SampleJson(const Sample& before, const Sample& now);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_SAMPLE_H_
