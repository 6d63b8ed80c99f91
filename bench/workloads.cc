#include "bench/workloads.h"

namespace evermap::bench {
namespace {

// A node that looks this many peers up at once, and pauses in which any server is done with them.
constexpr uint32_t kBurstPeers = 100;
constexpr double kBurstsPerSecond = 10;

}  // namespace

std::vector<Workload> Workloads() {
  return {
      {.settings = {.command = "lookup", .mix = {.known = 1}},
       .help = "look nodes up",
       .own_options = OwnOptions::kUnknownShare,
       .is_compared = true},
      {.settings = {.command = "names", .mix = {.names = 1}},
       .help = "ask for all names",
       .is_compared = true},
      {.settings = {.command = "register", .mix = {.registrations = 1}},
       .help = "register nodes, which leave as soon as they are",
       .own_options = OwnOptions::kNamesPerConnection,
       .is_compared = true},
      {.settings = {.command = "burst",
                    .mix = {.known = 1},
                    .connections = kBurstPeers,
                    .rate_per_s = kBurstPeers * kBurstsPerSecond,
                    .burst = kBurstPeers},
       .help =
           "look many nodes up at once, again and again, as a node of OTP 28 does with its peers",
       .own_options = OwnOptions::kBurst,
       .is_compared = true},
      {.settings =
           {.command = "storm", .mix = {.registrations = 1}, .nodes = 1000, .is_storm = true},
       .help = "register many nodes at once, as after a power cut",
       .own_options = OwnOptions::kStormNodes},
      {.settings = {.command = "mixed",
                    .mix = {.known = 90, .unknown = 5, .names = 1, .registrations = 4}},
       .help = "all of it, in shares",
       .own_options = OwnOptions::kShares},
      {.settings = {.command = "idle", .mix = {.known = 1}, .idle = 1000},
       .help = "look nodes up while other connections say nothing",
       .has_compare = false},
      {.settings = {.command = "restart", .mix = {.known = 1}, .rate_per_s = 1000, .seconds = 6},
       .help = "look nodes up while a command restarts the server",
       .own_options = OwnOptions::kRestart,
       .has_compare = false},
  };
}

std::optional<WorkloadSettings> SettingsOfCompared(std::string_view name) {
  for (const Workload& workload : Workloads()) {
    if (workload.is_compared && workload.settings.command == name) return workload.settings;
  }
  return std::nullopt;
}

std::string NamesOfCompared() {
  std::vector<std::string> names;
  for (const Workload& workload : Workloads()) {
    if (workload.is_compared) names.push_back(workload.settings.command);
  }
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " or " : ", ";
    text += names[i];
  }
  return text;
}

}  // namespace evermap::bench
