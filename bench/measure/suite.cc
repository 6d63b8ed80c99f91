#include "bench/measure/suite.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/load/shared_memory_lookup.h"
#include "bench/measure/comparison.h"
#include "bench/measure/process_usage.h"
#include "bench/measure/restart.h"
#include "bench/measure/started_server.h"

namespace evermap::bench {
namespace {

constexpr uint32_t kConnections = 8;
constexpr Mix kLookups{.known = 1};
constexpr Mix kNames{.names = 1};
constexpr Mix kRegistrations{.registrations = 1};
// The floor knows no nodes, so both sides are asked for names that no node has.
constexpr Mix kOnlyUnknown{.unknown = 1};
constexpr uint32_t kQuickRounds = 2;
constexpr absl::Duration kQuickRound = absl::Milliseconds(40);
constexpr size_t kQuickDivisor = 10;
// Time after which no process takes or frees memory any more, so that it can be measured.
constexpr absl::Duration kSettle = absl::Milliseconds(300);
constexpr double kRestartRatePerS = 2000;
constexpr uint32_t kRestartSources = 8;
constexpr absl::Duration kRestartLoad = absl::Seconds(4);
constexpr absl::Duration kUpgradePatience = absl::Seconds(20);
// Numbers of nodes, and how long one request of an upgrade with as many may take. A process that may
// have 20,000 descriptors holds no more nodes than the most here.
constexpr std::array<std::pair<size_t, double>, 3> kUpgradeLimitsMs = {
    {{1'000, 15}, {10'000, 15}, {19'000, 20}}};
// The time without service after a crash does not grow with the nodes.
constexpr std::array<size_t, 4> kKilledNodes = {100, 1'000, 10'000, 19'000};
constexpr double kKillGapMs = 20;

class Suite {
 public:
  explicit Suite(const SuiteOptions& options) : options_(options) {
    if (options_.quick) {
      options_.rounds = kQuickRounds;
      options_.round = kQuickRound;
    }
  }

  absl::StatusOr<SuiteResult> Run() {
    using Step = absl::Status (Suite::*)();
    for (const Step step :
         {&Suite::LookupsAgainstStock, &Suite::LookupsByNodes, &Suite::LookupsAgainstFloor,
          &Suite::NamesAgainstStock, &Suite::RegistrationsAgainstStock, &Suite::LatencyAgainstStock,
          &Suite::SharedMemory, &Suite::MemoryPerNode, &Suite::Upgrades, &Suite::Kills}) {
      if (absl::Status status = (this->*step)(); !status.ok()) return status;
    }
    return std::move(result_);
  }

 private:
  using Server = std::unique_ptr<StartedServer>;

  size_t Nodes(size_t full) const { return options_.quick ? full / kQuickDivisor : full; }
  void Tell(const std::string& what) const {
    if (options_.on_step) options_.on_step(what);
  }

  ServerProgram Stock() const {
    return {.label = "stock", .program = options_.stock, .core = options_.server_core};
  }
  ServerProgram Floor() const {
    return {.label = "floor", .kind = ServerKind::kFloor, .core = options_.server_core};
  }
  ServerProgram Ours(bool with_keeper = false) const {
    ServerProgram ours{.label = "ours",
                       .program = options_.ours,
                       .kind = ServerKind::kEvermap,
                       .arguments = options_.ours_arguments,
                       .core = options_.server_core};
    if (!with_keeper) ours.arguments.emplace_back("-no_keeper");
    return ours;
  }
  LoadOptions Load(uint32_t connections) const {
    LoadOptions load;
    load.connections = connections;
    load.cores = {options_.load_core};
    load.duration = options_.round;
    load.warm_up = options_.round / 10;
    return load;
  }

  // Rounds of two servers, their costs, and a line of the table: `server` against `reference`.
  absl::Status Compare(Contestant& server, Contestant& reference, Metric metric, Budget budget) {
    absl::Status status = RunRounds({&server, &reference}, options_.rounds);
    if (!status.ok()) return status;
    for (const Contestant* contestant : {&server, &reference}) {
      result_.requests += contestant->outcomes.total();
      result_.wrong += contestant->outcomes.wrong();
    }
    budget.samples = Ratios(server.rounds.of(metric), reference.rounds.of(metric));
    result_.budgets.push_back(std::move(budget));
    return absl::OkStatus();
  }

  void NoteCost(const Contestant& contestant, const std::string& request, size_t nodes) {
    result_.costs.push_back({.server = contestant.label,
                             .request = request,
                             .nodes = nodes,
                             .connections = contestant.load.connections,
                             .cpu_us = contestant.rounds.of(Metric::kCpuUs),
                             .p50_us = contestant.rounds.of(Metric::kP50Us)});
  }

  // Compares both under the same mix, with as many nodes.
  absl::Status CompareWithStock(const Mix& mix, const std::string& request, size_t nodes,
                                uint32_t connections, Metric metric, Budget budget) {
    Tell(budget.what);
    absl::StatusOr<Server> stock = StartedServer::Start(Stock(), nodes);
    if (!stock.ok()) return stock.status();
    absl::StatusOr<Server> ours = StartedServer::Start(Ours(), nodes);
    if (!ours.ok()) return ours.status();
    Contestant& stock_side = (*stock)->Enter(mix, Load(connections));
    Contestant& our_side = (*ours)->Enter(mix, Load(connections));
    absl::Status status = Compare(our_side, stock_side, metric, std::move(budget));
    NoteCost(stock_side, request, nodes);
    NoteCost(our_side, request, nodes);
    return status;
  }

  absl::Status LookupsAgainstStock() {
    const std::vector<std::pair<size_t, double>> limits = {{100, 0.55}, {500, 0.23}, {900, 0.125}};
    for (const auto& [nodes, limit] : limits) {
      absl::Status status = CompareWithStock(
          kLookups, "lookup", Nodes(nodes), kConnections, Metric::kCpuUs,
          {.id = absl::StrCat("lookup_cpu_stock_", nodes),
           .what = absl::StrCat("lookup, ", Nodes(nodes), " nodes: CPU against stock"),
           .limit = limit});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status LookupsByNodes() {
    const size_t many = Nodes(10'000);
    const size_t few = 10;
    const std::string what = absl::StrCat("lookup: CPU with ", many, " nodes against ", few);
    Tell(what);
    absl::StatusOr<Server> large = StartedServer::Start(Ours(), many);
    if (!large.ok()) return large.status();
    absl::StatusOr<Server> small = StartedServer::Start(Ours(), few);
    if (!small.ok()) return small.status();
    Contestant& large_side = (*large)->Enter(kLookups, Load(kConnections));
    Contestant& small_side = (*small)->Enter(kLookups, Load(kConnections));
    absl::Status status = Compare(large_side, small_side, Metric::kCpuUs,
                                  {.id = "lookup_cpu_10000_10", .what = what, .limit = 1.05});
    NoteCost(large_side, "lookup", many);
    NoteCost(small_side, "lookup", few);
    return status;
  }

  absl::Status LookupsAgainstFloor() {
    const size_t nodes = Nodes(100);
    const std::string lookup = absl::StrCat("lookup, ", nodes, " nodes");
    absl::Status status = CompareWithFloor(
        nodes, kConnections, Metric::kCpuUs,
        {.id = "lookup_cpu_floor", .what = lookup + ": CPU against the floor", .limit = 1.10});
    if (!status.ok()) return status;
    return CompareWithFloor(nodes, 1, Metric::kP50Us,
                            {.id = "lookup_p50_floor",
                             .what = lookup + ", one client: p50 against the floor",
                             .limit = 1.05});
  }

  absl::Status CompareWithFloor(size_t nodes, uint32_t connections, Metric metric, Budget budget) {
    Tell(budget.what);
    absl::StatusOr<Server> floor = StartedServer::Start(Floor(), 0);
    if (!floor.ok()) return floor.status();
    absl::StatusOr<Server> ours = StartedServer::Start(Ours(), nodes);
    if (!ours.ok()) return ours.status();
    Contestant& floor_side = (*floor)->Enter(kOnlyUnknown, Load(connections));
    Contestant& our_side = (*ours)->Enter(kLookups, Load(connections));
    absl::Status status = Compare(our_side, floor_side, metric, std::move(budget));
    NoteCost(floor_side, "lookup", nodes);
    return status;
  }

  absl::Status NamesAgainstStock() {
    const size_t nodes = Nodes(500);
    return CompareWithStock(kNames, "names", nodes, kConnections, Metric::kCpuUs,
                            {.id = "names_cpu_stock_500",
                             .what = absl::StrCat("NAMES, ", nodes, " nodes: CPU against stock"),
                             .limit = 0.06});
  }

  absl::Status RegistrationsAgainstStock() {
    const size_t nodes = Nodes(900);
    return CompareWithStock(
        kRegistrations, "register", nodes, kConnections, Metric::kCpuUs,
        {.id = "register_cpu_stock_900",
         .what = absl::StrCat("register + unregister, ", nodes, " nodes: CPU against stock"),
         .limit = 0.30});
  }

  absl::Status LatencyAgainstStock() {
    const std::vector<std::pair<size_t, double>> limits = {{10, 0.95}, {500, 0.6}};
    for (const auto& [full, limit] : limits) {
      const size_t nodes = full == 10 ? full : Nodes(full);
      absl::Status status = CompareWithStock(
          kLookups, "lookup", nodes, 1, Metric::kP50Us,
          {.id = absl::StrCat("lookup_p50_stock_", full),
           .what = absl::StrCat("lookup, ", nodes, " nodes, one client: p50 against stock"),
           .limit = limit});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status SharedMemory() {
    const size_t nodes = Nodes(10'000);
    Budget latency{.id = "shared_memory_p50",
                   .what = absl::StrCat("lookup in shared memory, ", nodes, " names: p50"),
                   .limit = 150,
                   .unit = "ns"};
    Budget scaling{.id = "shared_memory_scaling",
                   .what = "the same: two threads against one",
                   .limit = 1.9,
                   .is_minimum = true};
    Tell(latency.what);
    const absl::StatusOr<Server> ours = StartedServer::Start(Ours(), nodes);
    if (!ours.ok()) return ours.status();
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      const auto one =
          LookUpInSharedMemory((*ours)->registry_path(), (*ours)->nodes(), 1, options_.round);
      if (!one.ok()) return one.status();
      const auto two =
          LookUpInSharedMemory((*ours)->registry_path(), (*ours)->nodes(), 2, options_.round);
      if (!two.ok()) return two.status();
      latency.samples.push_back(static_cast<double>(one->latencies.PercentileNs(50)));
      scaling.samples.push_back(two->per_second / one->per_second);
      result_.requests += one->lookups + two->lookups;
      result_.wrong += one->wrong + two->wrong;
    }
    result_.budgets.push_back(std::move(latency));
    result_.budgets.push_back(std::move(scaling));
    return absl::OkStatus();
  }

  // The keeper takes part, because the memory of all processes counts.
  absl::Status MemoryPerNode() {
    const size_t nodes = Nodes(10'000);
    Budget budget{.id = "memory_per_node",
                  .what = absl::StrCat("memory per node, ", nodes, " nodes, all processes"),
                  .limit = 1,
                  .unit = "KiB"};
    Tell(budget.what);
    const absl::StatusOr<Server> empty = StartedServer::Start(Ours(true), 0);
    if (!empty.ok()) return empty.status();
    const absl::StatusOr<Server> full = StartedServer::Start(Ours(true), nodes);
    if (!full.ok()) return full.status();
    absl::SleepFor(kSettle);
    const absl::StatusOr<ProcessUsage> without = ReadProcessTree((*empty)->pid());
    if (!without.ok()) return without.status();
    const absl::StatusOr<ProcessUsage> with = ReadProcessTree((*full)->pid());
    if (!with.ok()) return with.status();
    const double grown_bytes =
        static_cast<double>(with->memory_bytes) - static_cast<double>(without->memory_bytes);
    budget.samples = {grown_bytes / 1024 / static_cast<double>(nodes)};
    result_.budgets.push_back(std::move(budget));
    return absl::OkStatus();
  }

  // Lookups at a fixed rate while something happens to the mapper and its keeper.
  absl::StatusOr<RestartResult> LookUpWhile(StartedServer& server, std::function<int()> act) {
    LoadOptions load = Load(64);
    load.rate_per_s = kRestartRatePerS;
    // The nodes may have most of the ports of one address, and looking for a free one then takes the
    // kernel longer than a lookup.
    load.sources.count = kRestartSources;
    load.warm_up = absl::ZeroDuration();
    load.duration = kRestartLoad;
    load.wrong_max = UINT64_MAX;
    load.timeout = absl::Seconds(2);
    server.Enter(kLookups, load);
    return RunRestart(server.endpoint(), server.nodes(), server.traffic(),
                      {.load = load, .act = std::move(act), .nodes_register_again = false});
  }

  static std::string NameOf(size_t nodes, const std::string& what) {
    return absl::StrCat(what, ", ", nodes, " nodes, under load");
  }

  absl::Status Upgrades() {
    for (const auto& [nodes, limit_ms] : kUpgradeLimitsMs) {
      if (absl::Status status = Upgrade(Nodes(nodes), limit_ms); !status.ok()) return status;
      if (options_.quick) break;
    }
    return absl::OkStatus();
  }

  absl::Status Upgrade(size_t nodes, double limit_ms) {
    Budget failed{.id = absl::StrCat("upgrade_failed_", nodes),
                  .what = NameOf(nodes, "upgrade") + ": failed requests",
                  .limit = 0,
                  .unit = "requests"};
    Budget longest{.id = absl::StrCat("upgrade_longest_", nodes),
                   .what = "the same: longest request",
                   .limit = limit_ms,
                   .unit = "ms"};
    Tell(failed.what);
    const absl::StatusOr<Server> ours = StartedServer::Start(Ours(true), nodes);
    if (!ours.ok()) return ours.status();
    const std::vector<pid_t> before = ProcessTree((*ours)->pid());
    if (before.size() < 2) {
      failed.note = longest.note = "this build has no keeper";
    } else {
      std::vector<pid_t> after = before;
      const auto result = LookUpWhile(**ours, [&] {
        kill((*ours)->pid(), SIGHUP);
        // The upgrade has ended when a new mapper has taken the place of the old one, and there are
        // as many processes as before.
        const absl::Time deadline = absl::Now() + kUpgradePatience;
        do {
          absl::SleepFor(absl::Milliseconds(5));
          after = ProcessTree((*ours)->pid());
        } while ((after == before || after.size() != before.size()) && absl::Now() < deadline);
        return 0;
      });
      if (!result.ok()) return result.status();
      failed.samples = {
          static_cast<double>(result->load.outcomes.wrong() + result->registrations_lost)};
      longest.samples = {static_cast<double>(result->load.latencies.max_ns()) / 1e6};
      if (after == before) failed.note = longest.note = "SIGHUP has brought no other mapper";
    }
    result_.budgets.push_back(std::move(failed));
    result_.budgets.push_back(std::move(longest));
    return absl::OkStatus();
  }

  absl::Status Kills() {
    for (const size_t nodes : kKilledNodes) {
      if (absl::Status status = Kill(Nodes(nodes)); !status.ok()) return status;
      if (options_.quick) break;
    }
    return absl::OkStatus();
  }

  absl::Status Kill(size_t nodes) {
    Budget lost{.id = absl::StrCat("kill_lost_", nodes),
                .what = NameOf(nodes, "kill -9") + ": registrations lost",
                .limit = 0,
                .unit = "nodes"};
    Budget gap{.id = absl::StrCat("kill_gap_", nodes),
               .what = "the same: without service",
               .limit = kKillGapMs,
               .unit = "ms"};
    Tell(lost.what);
    const absl::StatusOr<Server> ours = StartedServer::Start(Ours(true), nodes);
    if (!ours.ok()) return ours.status();
    const std::vector<pid_t> tree = ProcessTree((*ours)->pid());
    if (tree.size() < 2) {
      lost.note = gap.note = "this build has no keeper";
    } else {
      const auto result = LookUpWhile(**ours, [&] { return kill(tree.back(), SIGKILL); });
      if (!result.ok()) return result.status();
      lost.samples = {static_cast<double>(result->registrations_lost)};
      gap.samples = {absl::ToDoubleMilliseconds(result->gap())};
    }
    result_.budgets.push_back(std::move(lost));
    result_.budgets.push_back(std::move(gap));
    return absl::OkStatus();
  }

  SuiteOptions options_;
  SuiteResult result_;
};

}  // namespace

bool Budget::IsMet() const {
  if (samples.empty() || !note.empty()) return false;
  const double value = measured().median;
  return is_minimum ? value >= limit : value <= limit;
}

absl::StatusOr<SuiteResult> RunSuite(const SuiteOptions& options) { return Suite(options).Run(); }

}  // namespace evermap::bench
