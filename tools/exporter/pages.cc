#include "tools/exporter/pages.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "registry/base/text.h"
#include "registry/status.h"

namespace evermap::exporter {
namespace {

constexpr int kRefreshSeconds = 10;

// A host name, an IPv4 address, or an IPv6 address in brackets.
std::string UrlHost(std::string_view host) {
  const bool bare_v6 = host.find(':') != std::string_view::npos && host.front() != '[';
  return bare_v6 ? absl::StrCat("[", std::string(host), "]") : std::string(host);
}

// `text` as HTML shows it, also between quotes of an attribute.
std::string HtmlEscaped(std::string_view text) {
  return absl::StrReplaceAll(
      absl::string_view(text.data(), text.size()),
      {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string TimeText(int64_t unix_ns) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", absl::FromUnixNanos(unix_ns),
                          absl::UTCTimeZone());
}

// An age in its two largest units, like "3 d 4 h".
std::string AgeText(int64_t ns) {
  const int64_t seconds = std::max<int64_t>(ns, 0) / 1'000'000'000;
  if (seconds < 60) return absl::StrFormat("%d s", seconds);
  if (seconds < 3600) return absl::StrFormat("%d min %d s", seconds / 60, seconds % 60);
  if (seconds < 86400) return absl::StrFormat("%d h %d min", seconds / 3600, seconds / 60 % 60);
  return absl::StrFormat("%d d %d h", seconds / 86400, seconds / 3600 % 24);
}

constexpr char kStyle[] = R"(
:root { color-scheme: light dark; --line: #d5dae1; --muted: #5b6675; --good: #12703b;
  --bad: #b3261e; --warn: #8a5a00; --ground: #ffffff; --text: #1a2027; --tile: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --line: #333b45; --muted: #9aa6b5; --good: #63d297;
  --bad: #ff8a80; --warn: #f0b955; --ground: #14181d; --text: #e6eaf0; --tile: #1d232a; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; background: var(--ground);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .muted { color: var(--muted); } .good { color: var(--good); }
.bad { color: var(--bad); } .warn { color: var(--warn); }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 0; }
.tile { background: var(--tile); border-radius: .5rem; padding: .6rem 1rem; min-width: 7rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; } th { color: var(--muted); font-weight: 500; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.name { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; } code { font-size: .95em; }
a { color: inherit; }
)";

std::string Tile(uint64_t value, std::string_view what) {
  return absl::StrFormat("<div class=\"tile\"><b>%d</b>%s</div>\n", value, what);
}

std::string MapperLine(const Snapshot& snapshot, int64_t now_unix_ns) {
  const MapperStatus status = snapshot.view().mapper_status();
  if (!IsRunning(status)) {
    return "<p class=\"bad\">The mapper does not run. Below is what it knew last.</p>\n";
  }
  return absl::StrFormat(
      "<p><span class=\"good\">Running</span> for %s: version %s, process %d, %d workers</p>\n"
      "<p class=\"muted\">Event loop: %s</p>\n<p class=\"muted\">Custody: %s</p>\n",
      AgeText(now_unix_ns - status.started_unix_ns), HtmlEscaped(ValidUtf8(status.version)),
      status.pid, status.workers, HtmlEscaped(ValidUtf8(status.loop)),
      HtmlEscaped(ValidUtf8(status.custody)));
}

std::string UpgradeLine(const Snapshot& snapshot) {
  const UpgradeStatus upgrade = snapshot.view().upgrade_status();
  if (upgrade.outcome == UpgradeStatus::Outcome::kNone) return "";
  const bool failed = upgrade.outcome == UpgradeStatus::Outcome::kFailed;
  const char* what = failed                                                  ? "failed"
                     : upgrade.outcome == UpgradeStatus::Outcome::kSucceeded ? "succeeded"
                                                                             : "is running";
  return absl::StrFormat("<p>Last upgrade (%s): <span class=\"%s\">%s</span> %s</p>\n",
                         TimeText(upgrade.unix_ns), failed ? "bad" : "", what,
                         HtmlEscaped(ValidUtf8(upgrade.text)));
}

std::string NodesTable(const Snapshot& snapshot, int64_t now_unix_ns) {
  const auto& nodes = snapshot.nodes();
  if (nodes.empty()) return "<p class=\"muted\">None is registered.</p>\n";
  std::string table =
      "<div class=\"scroll\"><table>\n<thead><tr><th>Name</th><th class=\"number\">Port</th>"
      "<th class=\"number\">Creation</th><th>State</th><th>Type</th>"
      "<th>Registered</th><th>Since</th></tr></thead>\n<tbody>\n";
  const size_t shown = std::min(nodes.size(), kStatusPageNodesMax);
  for (size_t i = 0; i < shown; ++i) {
    const Snapshot::Node& node = nodes[i];
    absl::StrAppendFormat(
        &table,
        "<tr><td class=\"name\">%s</td><td class=\"number\">%d</td><td class=\"number\">%d</td>"
        "<td class=\"%s\">%s</td><td>%s</td><td>%s ago</td><td class=\"muted\">%s</td></tr>\n",
        HtmlEscaped(node.name), node.port, node.creation, node.orphaned ? "warn" : "good",
        StateText(node), TypeText(node), AgeText(now_unix_ns - node.since_unix_ns),
        TimeText(node.since_unix_ns));
  }
  absl::StrAppend(&table, "</tbody></table></div>\n");
  if (nodes.size() > shown) {
    absl::StrAppendFormat(&table, "<p>and %d more: <code>epmdctl list</code> shows all.</p>\n",
                          nodes.size() - shown);
  }
  return table;
}

std::string Body(const Snapshot& snapshot, int64_t now_unix_ns) {
  if (!snapshot.readable()) {
    return absl::StrFormat("<p class=\"bad\">%s</p>\n", HtmlEscaped(ValidUtf8(snapshot.problem())));
  }
  const CounterTotals& totals = snapshot.totals();
  const uint64_t lookups =
      totals.Of(&WorkerStatistics::port2_found) + totals.Of(&WorkerStatistics::port2_unknown);
  return absl::StrCat(MapperLine(snapshot, now_unix_ns), UpgradeLine(snapshot),
                      "<div class=\"tiles\">\n", Tile(snapshot.live_count(), "nodes"),
                      Tile(snapshot.orphaned_count(), "orphaned"), Tile(lookups, "lookups"),
                      Tile(totals.Of(&WorkerStatistics::alive2_registered), "registrations"),
                      Tile(totals.Of(&WorkerStatistics::alive2_refused), "refused"),
                      Tile(snapshot.view().capacity(), "names at most"), "</div>\n<h2>Nodes</h2>\n",
                      NodesTable(snapshot, now_unix_ns));
}

}  // namespace

std::string ServiceDiscoveryJson(const Snapshot& snapshot, std::string_view host) {
  const std::string url_host = UrlHost(host);
  nlohmann::json groups = nlohmann::json::array();
  for (const Snapshot::Node& node : snapshot.nodes()) {
    if (node.port == 0) continue;
    groups.push_back({
        {"targets", {absl::StrCat(url_host, ":", node.port)}},
        {"labels",
         {
             {"__meta_evermap_name", node.name},
             {"__meta_evermap_port", absl::StrCat(node.port)},
             {"__meta_evermap_creation", absl::StrCat(node.creation)},
             {"__meta_evermap_state", StateText(node)},
             {"__meta_evermap_type", TypeText(node)},
         }},
    });
  }
  return groups.dump(2) + "\n";
}

std::string StatusPageHtml(const Snapshot& snapshot, int64_t now_unix_ns) {
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"refresh\" content=\"",
      kRefreshSeconds, "\">\n<title>Erlang port mapper</title>\n<style>", kStyle,
      "</style>\n</head>\n<body>\n<h1>Erlang port mapper</h1>\n<p class=\"muted\"><code>",
      HtmlEscaped(ValidUtf8(snapshot.registry_path())), "</code>, ", TimeText(now_unix_ns),
      "</p>\n", Body(snapshot, now_unix_ns),
      "<p class=\"muted\"><br><a href=\"metrics\">metrics</a>, "
      "<a href=\"sd\">service discovery</a></p>\n</body>\n</html>\n");
}

}  // namespace evermap::exporter
