#include "tools/epmdctl/view/sample.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string_view>

#include "absl/strings/str_format.h"
#include "registry/base/clock.h"
#include "tools/epmdctl/view/counters.h"

namespace evermap {
namespace {

constexpr size_t kNewestNodesInJson = 10;
// Addresses that are shown.
constexpr size_t kAskersShown = 8;
// Width of the left one of two columns of figures. Screens that are narrower than kTwoColumnsMin
// have the two below each other.
constexpr size_t kLeftColumns = 54;
constexpr size_t kTwoColumnsMin = 78;

struct Share {
  const char* name;
  double share;
};
constexpr Share kShares[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};

double SecondsBetween(const Sample& before, const Sample& now) {
  return static_cast<double>(std::max<int64_t>(now.monotonic_ns - before.monotonic_ns, 1)) / 1e9;
}

std::string RateText(double rate) {
  return rate < 10 && rate > 0 ? absl::StrFormat("%.1f", rate)
                               : GroupedText(static_cast<uint64_t>(std::llround(rate)));
}

// The counters of requests, or all others; counters that are still zero are left out.
std::vector<std::string> CounterLines(const char* title, bool of_requests,
                                      const CounterTotals& grown, const CounterTotals& totals,
                                      double seconds, const Style& style) {
  std::vector<std::string> rows = {
      style.Strong(absl::StrFormat("%-24s %9s %13s", title, "a second", "total"))};
  for (size_t i = 0; i < totals.values.size(); ++i) {
    if (kCounters[i].is_request() != of_requests || totals.values[i] == 0) continue;
    const double rate = static_cast<double>(grown.values[i]) / seconds;
    rows.push_back(absl::StrFormat("  %-22s %9s %13s", CounterText(kCounters[i]), RateText(rate),
                                   GroupedText(totals.values[i])));
  }
  return rows;
}

std::vector<std::string> LatencyRows(const LatencyCounts& latency, const Style& style) {
  std::vector<std::string> rows = {style.Strong("LATENCY") + "          below"};
  for (const Share& share : kShares) {
    const std::optional<uint64_t> ns = LatencyQuantileNs(latency, share.share);
    rows.push_back(absl::StrFormat("  %-10s %9s", share.name,
                                   ns.has_value() ? LatencyText(*ns) : std::string("-")));
  }
  return rows;
}

std::vector<std::string> HeadRows(const Sample& now, const Style& style) {
  const MapperStatus& mapper = now.mapper;
  std::string first;
  if (now.mapper_runs) {
    const int64_t up_s =
        std::max<int64_t>(0, (now.unix_ns - mapper.started_unix_ns) / kNsPerSecond);
    first = style.Good("mapper runs") +
            absl::StrFormat("   pid %d   version %s   up %s   %d workers   %s", mapper.pid,
                            Printable(mapper.version), DurationText(up_s), mapper.workers,
                            Printable(mapper.loop.substr(0, mapper.loop.find(','))));
  } else {
    first = style.Bad("no mapper runs") + "   what is known of the last one:";
  }
  const std::string orphaned = absl::StrFormat("%s orphaned", GroupedText(now.orphaned));
  return {
      first,
      absl::StrFormat("nodes %s registered, ", GroupedText(uint64_t{now.live} + now.orphaned)) +
          (now.orphaned > 0 ? style.Warning(orphaned) : orphaned) +
          absl::StrFormat("   names %s of %s   connections %s", GroupedText(now.names_known),
                          GroupedText(now.capacity), GroupedText(now.counters.connections_now)),
  };
}

// Columns that `text` takes on a terminal, where escape sequences take none.
size_t VisibleColumns(std::string_view text) {
  size_t columns = 0;
  while (!text.empty()) {
    const size_t escape = text.find('\x1b');
    columns += Columns(text.substr(0, escape));
    if (escape == std::string_view::npos) break;
    text.remove_prefix(std::min(text.size(), text.find('m', escape) + 1));
  }
  return columns;
}

// The first `columns` columns of `text`. Escape sequences take no columns and are all kept, so that
// colours end where they should.
std::string Cut(std::string_view text, size_t columns) {
  std::string cut;
  size_t left = columns;
  while (!text.empty()) {
    const size_t escape = std::min(text.find('\x1b'), text.size());
    const std::string_view plain = text.substr(0, escape);
    const size_t taken = std::min(Columns(plain), left);
    cut += Fitted(plain, taken);
    left -= taken;
    text.remove_prefix(escape);
    if (text.empty()) break;
    const size_t end = std::min(text.find('m'), text.size() - 1) + 1;
    cut += text.substr(0, end);
    text.remove_prefix(end);
  }
  return cut;
}

void AppendBeside(const std::vector<std::string>& left, const std::vector<std::string>& right,
                  std::vector<std::string>& rows) {
  for (size_t i = 0; i < std::max(left.size(), right.size()); ++i) {
    std::string row = i < left.size() ? left[i] : "";
    if (i < right.size()) {
      row += std::string(kLeftColumns - std::min(kLeftColumns, VisibleColumns(row)), ' ');
      row += right[i];
    }
    rows.push_back(std::move(row));
  }
}

void Append(const std::vector<std::string>& more, std::vector<std::string>& rows) {
  rows.insert(rows.end(), more.begin(), more.end());
}

void AppendNewest(const Sample& now, size_t lines, size_t columns, const Style& style,
                  std::vector<std::string>& rows) {
  // Columns of port, state and age.
  constexpr size_t kOtherColumns = 6 + 10 + 14;
  const size_t name_columns = std::clamp<size_t>(columns, 48, 90) - kOtherColumns;
  if (rows.size() + 2 > lines || now.newest.empty()) return;
  rows.push_back(
      style.Strong(Fitted("NEWEST NODES", name_columns) + "  PORT  STATE    REGISTERED"));
  for (const SampledNode& node : now.newest) {
    if (rows.size() >= lines) return;
    const int64_t age_s = std::max<int64_t>(0, (now.unix_ns - node.since_unix_ns) / kNsPerSecond);
    rows.push_back(Fitted(Printable(node.name), name_columns) +
                   absl::StrFormat(" %5d  ", node.port) +
                   (node.orphaned ? style.Warning("orphaned") : "live    ") + " " +
                   DurationText(age_s) + " ago");
  }
}

// What an address has asked between two samples, by kind.
std::vector<ActivityReport::Asker> AskersBetween(const Sample& before, const Sample& now) {
  std::vector<ActivityReport::Asker> grown;
  for (const ActivityReport::Asker& asker : now.askers) {
    const auto earlier = std::find_if(
        before.askers.begin(), before.askers.end(),
        [&asker](const ActivityReport::Asker& one) { return one.address == asker.address; });
    grown.push_back(asker);
    if (earlier == before.askers.end()) continue;
    for (size_t kind = 0; kind < kAskKinds.size(); ++kind) {
      // One that had lost its place in between begins anew.
      const bool is_same = earlier->counts[kind] <= asker.counts[kind];
      grown.back().counts[kind] -= is_same ? earlier->counts[kind] : 0;
    }
  }
  const auto total = [](const ActivityReport::Asker& asker) {
    return std::accumulate(asker.counts.begin(), asker.counts.end(), uint64_t{0});
  };
  std::erase_if(grown, [&](const ActivityReport::Asker& asker) { return total(asker) == 0; });
  std::sort(grown.begin(), grown.end(),
            [&](const auto& a, const auto& b) { return total(a) > total(b); });
  return grown;
}

void AppendAskers(const Sample& before, const Sample& now, double seconds, const Style& style,
                  std::vector<std::string>& rows) {
  const std::vector<ActivityReport::Asker> askers = AskersBetween(before, now);
  if (askers.empty()) return;
  std::string head = absl::StrFormat("%-24s", "WHO ASKS, a second");
  for (const char* const kind : kAskKinds) head += absl::StrFormat(" %9s", kind);
  rows.push_back(style.Strong(head));
  for (size_t i = 0; i < std::min(askers.size(), kAskersShown); ++i) {
    std::string row = absl::StrFormat("  %-22s", AskerText(askers[i].address));
    for (const uint64_t count : askers[i].counts) {
      row += absl::StrFormat(
          " %9s", count == 0 ? std::string("-") : RateText(static_cast<double>(count) / seconds));
    }
    rows.push_back(std::move(row));
  }
  rows.emplace_back();
}

}  // namespace

Sample TakeSample(const RegistryView& view) {
  Sample sample;
  sample.monotonic_ns = MonotonicNs();
  sample.unix_ns = UnixNs();
  sample.mapper = view.mapper_status();
  sample.mapper_runs = IsRunning(sample.mapper);
  sample.counters = ReadCounterTotals(view);
  sample.capacity = view.capacity();
  const auto is_newer = [](const SampledNode& a, const SampledNode& b) { return a.id > b.id; };
  Registration node;
  const uint32_t slots = view.slots_used();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, node)) continue;
    ++sample.names_known;
    if (node.state == RegistrationState::kRemembered) continue;
    const bool orphaned = node.state == RegistrationState::kOrphaned;
    ++(orphaned ? sample.orphaned : sample.live);
    // `newest` is a heap with the oldest of them on top.
    std::vector<SampledNode>& newest = sample.newest;
    if (newest.size() == kNewestNodesMax) {
      if (newest.front().id > node.id) continue;
      std::pop_heap(newest.begin(), newest.end(), is_newer);
      newest.pop_back();
    }
    newest.push_back({node.id, std::string(node.name()), node.port, orphaned, node.since_unix_ns});
    std::push_heap(newest.begin(), newest.end(), is_newer);
  }
  std::sort(sample.newest.begin(), sample.newest.end(), is_newer);
  return sample;
}

std::vector<std::string> SampleLines(const Sample& before, const Sample& now, size_t columns,
                                     size_t lines, const Style& style) {
  const double seconds = SecondsBetween(before, now);
  const CounterTotals grown = Growth(before.counters, now.counters);
  std::vector<std::string> rows = HeadRows(now, style);
  rows.push_back("");
  const std::vector<std::string> requests =
      CounterLines("REQUESTS", true, grown, now.counters, seconds, style);
  const std::vector<std::string> latency = LatencyRows(grown.latency, style);
  if (columns >= kTwoColumnsMin) {
    AppendBeside(requests, latency, rows);
  } else {
    Append(requests, rows);
    Append(latency, rows);
  }
  rows.push_back("");
  Append(CounterLines("CONNECTIONS AND NODES", false, grown, now.counters, seconds, style), rows);
  rows.push_back("");
  AppendAskers(before, now, seconds, style, rows);
  AppendNewest(now, lines, columns, style, rows);
  if (rows.size() > lines) rows.resize(lines);
  for (std::string& row : rows) row = Cut(row, columns);
  return rows;
}

nlohmann::json SampleJson(const Sample& before, const Sample& now) {
  const double seconds = SecondsBetween(before, now);
  const CounterTotals grown = Growth(before.counters, now.counters);
  nlohmann::json rates = nlohmann::json::object();
  for (size_t i = 0; i < grown.values.size(); ++i) {
    rates[kCounters[i].field] = static_cast<double>(grown.values[i]) / seconds;
  }
  nlohmann::json newest = nlohmann::json::array();
  for (const SampledNode& node : now.newest) {
    if (newest.size() == kNewestNodesInJson) break;
    newest.push_back({{"name", node.name},
                      {"port", node.port},
                      {"state", node.orphaned ? "orphaned" : "live"},
                      {"since", TimeOrNull(node.since_unix_ns)}});
  }
  nlohmann::json askers = nlohmann::json::array();
  for (const ActivityReport::Asker& asker : AskersBetween(before, now)) {
    nlohmann::json row = nlohmann::json::object();
    row["address"] = AskerText(asker.address);
    for (size_t kind = 0; kind < kAskKinds.size(); ++kind) {
      row[kAskKinds[kind]] = static_cast<double>(asker.counts[kind]) / seconds;
    }
    askers.push_back(std::move(row));
  }
  return {
      {"askers_per_second", askers},
      {"time", TimeTextMs(now.unix_ns)},
      {"seconds", seconds},
      {"running", now.mapper_runs},
      {"pid", now.mapper.pid == 0 ? nlohmann::json() : nlohmann::json(now.mapper.pid)},
      {"registered", now.live + now.orphaned},
      {"orphaned", now.orphaned},
      {"names_known", now.names_known},
      {"capacity", now.capacity},
      {"connections", now.counters.connections_now},
      {"per_second", rates},
      {"counters", CountersJson(now.counters)},
      {"latency", LatencyJson(grown.latency)},
      {"newest", newest},
  };
}

}  // namespace evermap
