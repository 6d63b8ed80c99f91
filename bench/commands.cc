#include "bench/commands.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/load/idle_connections.h"
#include "bench/load/load.h"
#include "bench/load/node_set.h"
#include "bench/measure/comparison.h"
#include "bench/measure/floor_server.h"
#include "bench/measure/mesh.h"
#include "bench/measure/restart.h"
#include "bench/measure/started_server.h"
#include "bench/report/report.h"
#include "bench/report/result_json.h"
#include "bench/report/tables.h"
#include "daemon/wire/client.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {
namespace {

using Json = nlohmann::ordered_json;

int Fail(const absl::Status& status) {
  absl::FPrintF(stderr, "epmd-bench: %s\n", status.message());
  return 1;
}

// A line on the terminal that is overwritten. Nothing is shown where standard error is no terminal.
class ProgressLine {
 public:
  explicit ProgressLine(const OutputSettings& output)
      : is_shown_(!output.quiet && isatty(STDERR_FILENO) == 1) {}
  ~ProgressLine() { Show(""); }

  void Show(const std::string& text) const {
    if (is_shown_) absl::FPrintF(stderr, "\r\033[K%s", text);
  }
  void Show(const LoadProgress& progress) const {
    Show(absl::StrFormat(
        "%.1f of %.1f s, %d requests, %d wrong", absl::ToDoubleSeconds(progress.elapsed),
        absl::ToDoubleSeconds(progress.whole), progress.correct + progress.wrong, progress.wrong));
  }
  bool is_shown() const { return is_shown_; }

 private:
  const bool is_shown_;
};

// Prints and writes what was measured, and returns the exit code. `wrong`: number of wrong replies.
int Publish(const Json& document, const std::string& table, uint64_t wrong,
            const OutputSettings& output) {
  const std::string text = output.json ? Dump(document) + "\n" : table;
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  if (!output.report.empty()) {
    if (absl::Status status = WriteReport(document, output.report); !status.ok()) {
      return Fail(status);
    }
  }
  return wrong == 0 ? 0 : 1;
}

// A running server with the nodes and idle connections of a measurement, which last as long as this
// object.
struct Target {
  Endpoint endpoint;
  NodeSet nodes;
  std::unique_ptr<IdleConnections> idle;
  std::unique_ptr<Traffic> traffic;
};

// What Traffic requires, as a message for the user.
absl::Status Check(const Mix& mix, size_t nodes) {
  const std::array<double, kRequestKinds> shares = mix.shares();
  const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
  if (*least < 0 || *most <= 0) {
    return absl::InvalidArgumentError("no share may be below 0, and one must be above it");
  }
  if (mix.known > 0 && nodes == 0) {
    return absl::InvalidArgumentError("there are no nodes to look up; give more --nodes");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Target>> Prepare(const Endpoint& endpoint,
                                                const WorkloadSettings& settings) {
  if (absl::Status status = Check(settings.mix, settings.nodes); !status.ok()) return status;
  const std::string prefix =
      settings.prefix.empty() ? absl::StrCat("bench", getpid()) : settings.prefix;
  absl::StatusOr<NodeSet> nodes =
      NodeSet::Register(endpoint, prefix + "x", settings.is_storm ? 0 : settings.nodes);
  if (!nodes.ok()) return nodes.status();
  auto target = std::make_unique<Target>(Target{endpoint, *std::move(nodes), nullptr, nullptr});
  if (settings.idle > 0) {
    absl::StatusOr<IdleConnections> idle = IdleConnections::Open(endpoint, settings.idle);
    if (!idle.ok()) return idle.status();
    target->idle = std::make_unique<IdleConnections>(*std::move(idle));
  }
  target->traffic =
      std::make_unique<Traffic>(target->nodes, settings.mix,
                                Traffic::Options{.mapper_port = endpoint.port(),
                                                 .prefix = prefix,
                                                 .names_per_slot = settings.names_per_connection});
  return target;
}

LoadOptions LoadOf(const WorkloadSettings& settings, pid_t pid) {
  LoadOptions load;
  load.connections = settings.is_storm ? static_cast<uint32_t>(settings.nodes)
                                       : std::max(settings.connections, settings.burst);
  load.threads = settings.threads;
  load.cores = settings.cores;
  load.rate_per_s = settings.rate_per_s;
  load.arrivals = settings.arrivals;
  load.burst = settings.burst;
  load.warm_up = settings.is_storm ? absl::ZeroDuration() : absl::Seconds(settings.warm_up_s);
  load.duration = absl::Seconds(settings.seconds);
  load.timeout = absl::Seconds(settings.timeout_s);
  load.sources.count = settings.sources;
  load.is_storm = settings.is_storm;
  load.server_pid = pid;
  return load;
}

// Number of nodes of a storm that NAMES lists while all of them are registered.
absl::StatusOr<uint64_t> CountListed(const Target& target) {
  const auto listed = Client(target.endpoint.host(), target.endpoint.port()).Names();
  if (!listed.ok()) return listed.status();
  uint64_t count = 0;
  for (const Client::NamedPort& node : *listed) {
    if (absl::StartsWith(node.name, target.traffic->options().prefix + "-t")) ++count;
  }
  return count;
}

int RunOnOne(const Endpoint& endpoint, const WorkloadSettings& settings,
             const OutputSettings& output) {
  const absl::StatusOr<std::unique_ptr<Target>> target = Prepare(endpoint, settings);
  if (!target.ok()) return Fail(target.status());
  LoadOptions load = LoadOf(settings, settings.pids.empty() ? 0 : settings.pids[0]);
  Json document = NewDocument(settings.command);
  document["server"] = endpoint.text();
  document["nodes"] = settings.nodes;
  std::string table;
  uint64_t wrong = 0;
  {
    const ProgressLine line(output);
    if (line.is_shown()) load.on_progress = [&](const LoadProgress& now) { line.Show(now); };
    if (!settings.restart_command.empty()) {
      load.wrong_max = UINT64_MAX;
      const absl::StatusOr<RestartResult> result =
          RunRestart(endpoint, (*target)->nodes, *(*target)->traffic,
                     {.load = load,
                      .act = [&] { return RunShellCommand(settings.restart_command); },
                      .act_after = absl::Seconds(settings.restart_after_s),
                      .nodes_register_again = settings.nodes_register_again});
      if (!result.ok()) return Fail(result.status());
      document["load"] = ToJson(*result, load);
      table = RestartTable(*result, load);
      wrong = result->load.outcomes.wrong() + result->registrations_lost +
              static_cast<uint64_t>(result->exit_code != 0);
    } else {
      const absl::StatusOr<LoadResult> result = RunLoad(endpoint, *(*target)->traffic, load);
      if (!result.ok()) return Fail(result.status());
      document["load"] = ToJson(*result, load);
      table = LoadTable(*result, load);
      wrong = result->outcomes.wrong();
      if (settings.is_storm) {
        const absl::StatusOr<uint64_t> listed = CountListed(**target);
        if (!listed.ok()) return Fail(listed.status());
        const double all_ms = absl::ToDoubleMilliseconds(result->elapsed);
        document["load"]["storm"] = {{"all_ms", all_ms}, {"listed", *listed}};
        table += absl::StrFormat("all registered after %.1f ms; NAMES lists %d of %d\n", all_ms,
                                 *listed, settings.nodes);
        if (*listed != settings.nodes) ++wrong;
      }
    }
  }
  if ((*target)->idle != nullptr) {
    const size_t open = (*target)->idle->CountOpen();
    document["load"]["idle"] = {{"connections", settings.idle}, {"open_at_end", open}};
    table +=
        absl::StrFormat("%d idle connections, %d of them open at the end\n", settings.idle, open);
  }
  return Publish(document, table, wrong, output);
}

int RunOnTwo(const WorkloadSettings& settings, const OutputSettings& output) {
  std::vector<std::unique_ptr<Target>> targets;
  std::vector<Contestant> sides(2);
  for (size_t i = 0; i < 2; ++i) {
    const auto endpoint = Endpoint::ParseWithPort(settings.compare[i], settings.port);
    if (!endpoint.ok()) return Fail(endpoint.status());
    auto target = Prepare(*endpoint, settings);
    if (!target.ok()) return Fail(target.status());
    targets.push_back(*std::move(target));
    sides[i].label = settings.compare[i];
    sides[i].endpoint = &targets[i]->endpoint;
    sides[i].traffic = targets[i]->traffic.get();
    sides[i].load = LoadOf(settings, i < settings.pids.size() ? settings.pids[i] : 0);
  }
  {
    const ProgressLine line(output);
    const absl::Status status =
        RunRounds({&sides[0], &sides[1]}, settings.rounds, [&](uint32_t done) {
          line.Show(absl::StrFormat("%d of %d rounds", done, settings.rounds));
        });
    if (!status.ok()) return Fail(status);
  }
  Json document = NewDocument(settings.command);
  document["comparisons"] =
      Json::array({{{"nodes", settings.nodes}, {"comparison", ToJson(sides[0], sides[1])}}});
  return Publish(document, ComparisonTable(sides[0], sides[1]),
                 sides[0].outcomes.wrong() + sides[1].outcomes.wrong(), output);
}

}  // namespace

int RunWorkload(const WorkloadSettings& settings, const OutputSettings& output) {
  RaiseDescriptorLimit();
  if (!settings.compare.empty()) {
    if (settings.compare.size() != 2) {
      return Fail(absl::InvalidArgumentError("--compare takes two addresses: A,B"));
    }
    return RunOnTwo(settings, output);
  }
  const auto endpoint = Endpoint::Parse(settings.address, settings.port);
  if (!endpoint.ok()) return Fail(endpoint.status());
  return RunOnOne(*endpoint, settings, output);
}

int RunCompare(const CompareSettings& settings, const OutputSettings& output) {
  RaiseDescriptorLimit();
  const std::optional<WorkloadSettings> workload = SettingsOfCompared(settings.workload);
  if (!workload.has_value()) {
    return Fail(absl::InvalidArgumentError("--workload is " + NamesOfCompared()));
  }
  const Mix& mix = workload->mix;
  LoadOptions load;
  load.connections = std::max(settings.connections, workload->burst);
  load.rate_per_s = workload->rate_per_s;
  load.burst = workload->burst;
  load.duration = absl::Seconds(settings.seconds);
  load.warm_up = load.duration / 10;
  load.cores = {settings.load_core};
  const ServerProgram stock{
      .label = "stock", .program = settings.stock, .core = settings.server_core};
  ServerProgram ours{.label = "ours",
                     .program = settings.ours,
                     .kind = ServerKind::kEvermap,
                     .arguments = settings.ours_arguments,
                     .core = settings.server_core};
  ours.arguments.emplace_back("-no_keeper");

  Json document = NewDocument("compare");
  document["comparisons"] = Json::array();
  std::string table;
  uint64_t wrong = 0;
  for (const size_t nodes : settings.nodes) {
    if (absl::Status status = Check(mix, nodes); !status.ok()) return Fail(status);
    const ProgressLine line(output);
    line.Show(absl::StrFormat("%d nodes", nodes));
    const auto first = StartedServer::Start(stock, nodes);
    if (!first.ok()) return Fail(first.status());
    const auto second = StartedServer::Start(ours, nodes);
    if (!second.ok()) return Fail(second.status());
    Contestant& first_side = (*first)->Enter(mix, load);
    Contestant& second_side = (*second)->Enter(mix, load);
    const absl::Status status =
        RunRounds({&first_side, &second_side}, settings.rounds, [&](uint32_t done) {
          line.Show(absl::StrFormat("%d nodes: %d of %d rounds", nodes, done, settings.rounds));
        });
    if (!status.ok()) return Fail(status);
    document["comparisons"].push_back(
        {{"nodes", nodes}, {"comparison", ToJson(first_side, second_side)}});
    table += absl::StrFormat("%s%s, %d nodes, %d rounds\n%s", table.empty() ? "" : "\n",
                             settings.workload, nodes, settings.rounds,
                             ComparisonTable(first_side, second_side));
    wrong += first_side.outcomes.wrong() + second_side.outcomes.wrong();
  }
  return Publish(document, table, wrong, output);
}

int RunMesh(const MeshSettings& settings, const OutputSettings& output) {
  RaiseDescriptorLimit();
  const std::array<ServerProgram, 2> programs = {
      ServerProgram{.label = "stock", .program = settings.stock},
      ServerProgram{.label = "ours",
                    .program = settings.ours,
                    .kind = ServerKind::kEvermap,
                    .arguments = settings.ours_arguments}};
  std::vector<std::unique_ptr<StartedServer>> servers;
  std::vector<std::unique_ptr<Mesh>> meshes;
  const ProgressLine line(output);
  for (const ServerProgram& program : programs) {
    line.Show(absl::StrFormat("%s: %d nodes start", program.label, settings.mesh.nodes));
    auto server = StartedServer::Start(program, 0);
    if (!server.ok()) return Fail(server.status());
    auto mesh = Mesh::Start(**server, settings.mesh);
    if (!mesh.ok()) return Fail(mesh.status());
    servers.push_back(*std::move(server));
    meshes.push_back(*std::move(mesh));
  }
  line.Show(absl::StrFormat("%d rounds", settings.rounds));
  const auto costs = RunMeshRounds(meshes, settings.rounds);
  line.Show("");
  if (!costs.ok()) return Fail(costs.status());
  Json document = NewDocument("mesh");
  document["nodes"] = settings.mesh.nodes;
  document["mesh"] = ToJson((*costs)[0], (*costs)[1]);
  const std::string title =
      absl::StrFormat("mesh of %d Erlang nodes, %d rounds\n", settings.mesh.nodes, settings.rounds);
  return Publish(document, title + MeshTable((*costs)[0], (*costs)[1]), 0, output);
}

int RunSuiteCommand(SuiteOptions options, const OutputSettings& output) {
  RaiseDescriptorLimit();
  absl::StatusOr<SuiteResult> result;
  {
    const ProgressLine line(output);
    options.on_step = [&line](const std::string& what) { line.Show(what); };
    result = RunSuite(options);
    options.on_step = nullptr;
  }
  if (!result.ok()) return Fail(result.status());
  Json document = NewDocument("suite");
  document["quick"] = options.quick;
  document["suite"] = ToJson(*result);
  std::string table = BudgetTable(*result);
  if (options.quick) table += "with --quick, to show that it works: these figures mean nothing\n";
  return Publish(document, table, result->wrong, output);
}

int RunFloor(const std::string& address, uint16_t port) {
  const auto endpoint = Endpoint::Parse(address, port);
  if (!endpoint.ok()) return Fail(endpoint.status());
  const absl::StatusOr<OwnedFd> listener = ListenForFloor(*endpoint);
  if (!listener.ok()) return Fail(listener.status());
  return Fail(ServeFloor(listener->get()));
}

}  // namespace evermap::bench
