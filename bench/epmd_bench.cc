// epmd-bench: how an Erlang port mapper behaves under load. This is its command line.
#include <CLI/CLI.hpp>
#include <cassert>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bench/commands.h"
#include "bench/load/load.h"
#include "bench/load/source_addresses.h"
#include "bench/workloads.h"

namespace evermap::bench {
namespace {

void AddOutput(CLI::App* command, OutputSettings& output) {
  command->add_flag("--json", output.json, "print JSON instead of a table");
  command->add_option("--report", output.report, "write an HTML page with plots");
  command->add_flag("--quiet", output.quiet, "no progress line");
}

void AddTarget(CLI::App* command, WorkloadSettings& settings) {
  command->add_option("--address", settings.address, "IP address of the server")
      ->capture_default_str();
  command->add_option("--port", settings.port, "port of the server")->capture_default_str();
  command->add_option("--prefix", settings.prefix, "what all names start with");
  command
      ->add_option("--pid", settings.pids,
                   "process of the server: measure what it and its descendants use; two with "
                   "--compare")
      ->delimiter(',');
  command->add_option("--threads", settings.threads, "threads of the load")
      ->check(CLI::Range(1u, kThreadsMax))
      ->capture_default_str();
  command->add_option("--cores", settings.cores, "cores that the threads keep to, in turn")
      ->delimiter(',');
  command
      ->add_option("--sources", settings.sources,
                   "source addresses in 127/8 taken in turn (more are taken when ports run out)")
      ->check(CLI::Range(1u, SourceAddresses::kCountMax))
      ->capture_default_str();
  command->add_option("--timeout", settings.timeout_s, "seconds for a request")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void AddCompare(CLI::App* command, WorkloadSettings& settings) {
  command
      ->add_option("--compare", settings.compare,
                   "measure two servers in turn: ADDRESS:PORT,ADDRESS:PORT")
      ->delimiter(',');
  command->add_option("--rounds", settings.rounds, "rounds of --compare")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
}

void AddNodes(CLI::App* command, WorkloadSettings& settings, const std::string& what) {
  command->add_option("--nodes", settings.nodes, what)
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
}

void AddLoad(CLI::App* command, WorkloadSettings& settings) {
  command->add_option("--connections", settings.connections, "requests under way at a time")
      ->check(CLI::Range(1u, kConnectionsMax))
      ->capture_default_str();
  command
      ->add_option("--rate", settings.rate_per_s,
                   "open loop: requests per second, whatever the server does")
      ->check(CLI::PositiveNumber);
  command->add_flag_callback(
      "--poisson", [&settings] { settings.arrivals = Arrivals::kPoisson; },
      "open loop: at random distances, as of many clients");
  command->add_option("--seconds", settings.seconds, "duration")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--warm-up", settings.warm_up_s, "seconds before the measurement")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--idle", settings.idle, "connections that say nothing, in the background")
      ->capture_default_str();
}

// What the command line says, and what each subcommand runs.
struct Commands {
  // Adds a subcommand: `run` returns the exit code of epmd-bench.
  CLI::App* Add(const std::string& name, const std::string& help, std::function<int()> run) {
    CLI::App* const command = app.add_subcommand(name, help);
    runs.emplace_back(command, std::move(run));
    return command;
  }
  // Runs the one that the command line names.
  int Run() const {
    for (const auto& [command, run] : runs) {
      if (command->parsed()) return run();
    }
    assert(false);  // CLI11 has required one of them.
    return 1;
  }

  CLI::App& app;
  std::vector<std::pair<const CLI::App*, std::function<int()>>> runs = {};

  std::vector<Workload> workloads = Workloads();
  CompareSettings compare = {};
  MeshSettings mesh = {};
  SuiteOptions suite = {};
  std::string floor_address = "127.0.0.1";
  uint16_t floor_port = 0;
  OutputSettings output = {};
};

void AddShares(CLI::App* command, Mix& mix) {
  command->add_option("--known", mix.known, "share of lookups of nodes")->capture_default_str();
  command->add_option("--unknown", mix.unknown, "share of lookups of names that nobody has")
      ->capture_default_str();
  command->add_option("--names", mix.names, "share of requests for all names")
      ->capture_default_str();
  command->add_option("--register", mix.registrations, "share of registrations")
      ->capture_default_str();
}

void AddRestart(CLI::App* command, WorkloadSettings& settings) {
  command->add_option("--command", settings.restart_command, "command for /bin/sh")->required();
  command->add_option("--after", settings.restart_after_s, "seconds until it is run")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag_callback(
      "--old-nodes", [&settings] { settings.nodes_register_again = false; },
      "nodes do not register again when they lose their connection, as before OTP 24");
}

void AddOwnOptions(CLI::App* command, OwnOptions options, WorkloadSettings& settings) {
  switch (options) {
    case OwnOptions::kNone:
      return;
    case OwnOptions::kUnknownShare:
      command
          ->add_option_function<double>(
              "--unknown",
              [&settings](double share) { settings.mix = {.known = 1 - share, .unknown = share}; },
              "share of names that nobody has, 0 to 1")
          ->check(CLI::Range(0.0, 1.0))
          ->default_str("0");
      return;
    case OwnOptions::kNamesPerConnection:
      command
          ->add_option("--names-per-connection", settings.names_per_connection,
                       "names that a connection registers in turn; 1: the same at once again")
          ->check(CLI::Range(1, 1'000'000))
          ->capture_default_str();
      return;
    case OwnOptions::kStormNodes:
      AddNodes(command, settings, "nodes that register");
      return;
    case OwnOptions::kBurst:
      command
          ->add_option("--burst", settings.burst,
                       "requests that start together; --rate is that of all requests")
          ->excludes(command->get_option("--poisson"))
          ->check(CLI::Range(1u, kConnectionsMax))
          ->capture_default_str();
      return;
    case OwnOptions::kShares:
      AddShares(command, settings.mix);
      return;
    case OwnOptions::kRestart:
      AddRestart(command, settings);
      return;
  }
}

void AddWorkloads(Commands& commands) {
  for (Workload& workload : commands.workloads) {
    WorkloadSettings& settings = workload.settings;
    CLI::App* command = commands.Add(settings.command, std::string(workload.help),
                                     [&] { return RunWorkload(settings, commands.output); });
    AddTarget(command, settings);
    if (!settings.is_storm) {
      AddNodes(command, settings, "nodes to register before");
      AddLoad(command, settings);
    }
    AddOutput(command, commands.output);
    AddOwnOptions(command, workload.own_options, settings);
    if (workload.has_compare) AddCompare(command, settings);
  }
}

void AddCompareCommand(Commands& commands) {
  CompareSettings& settings = commands.compare;
  CLI::App* command = commands.Add(
      "compare", "start two mappers on one core, the load on another, and measure them in turn",
      [&] { return RunCompare(commands.compare, commands.output); });
  command->add_option("--stock", settings.stock, "program of the stock epmd")->required();
  command->add_option("--ours", settings.ours, "program of Evermap's mapper")->required();
  command->add_option("--ours-arg", settings.ours_arguments, "an argument for it, such as -loop")
      ->allow_extra_args(false);
  command->add_option("--workload", settings.workload, NamesOfCompared())->capture_default_str();
  command->add_option("--nodes", settings.nodes, "numbers of nodes")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--rounds", settings.rounds, "rounds for each number")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--connections", settings.connections, "requests under way at a time")
      ->check(CLI::Range(1u, kConnectionsMax))
      ->capture_default_str();
  command->add_option("--seconds", settings.seconds, "duration of a round")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--server-core", settings.server_core)->capture_default_str();
  command->add_option("--load-core", settings.load_core)->capture_default_str();
  AddOutput(command, commands.output);
}

void AddSuiteCommand(Commands& commands) {
  SuiteOptions& options = commands.suite;
  CLI::App* command = commands.Add(
      "suite", "start the stock epmd, ours and the floor, and print the table of budgets",
      [&] { return RunSuiteCommand(commands.suite, commands.output); });
  command->add_option("--stock", options.stock, "program of the stock epmd")->required();
  command->add_option("--ours", options.ours, "program of Evermap's mapper")->required();
  command->add_option("--ours-arg", options.ours_arguments, "an argument for it, such as -loop")
      ->allow_extra_args(false);
  command->add_option("--rounds", options.rounds, "rounds of each measurement")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--quick", options.quick,
                    "only show that it works: fewer nodes, and rounds too short to measure");
  command->add_option("--server-core", options.server_core)->capture_default_str();
  command->add_option("--load-core", options.load_core)->capture_default_str();
  AddOutput(command, commands.output);
}

void AddMeshCommand(Commands& commands) {
  MeshSettings& settings = commands.mesh;
  CLI::App* command = commands.Add(
      "mesh",
      "start two mappers, each with real Erlang nodes, and have these form a full mesh in turn",
      [&] { return RunMesh(commands.mesh, commands.output); });
  command->add_option("--stock", settings.stock, "program of the stock epmd")->required();
  command->add_option("--ours", settings.ours, "program of Evermap's mapper")->required();
  command->add_option("--ours-arg", settings.ours_arguments, "an argument for it, such as -loop")
      ->allow_extra_args(false);
  command->add_option("--erl", settings.mesh.erl, "program that starts a node")
      ->capture_default_str();
  command->add_option("--nodes", settings.mesh.nodes, "nodes of each mapper")
      ->check(CLI::Range(size_t{2}, kMeshNodesMax))
      ->capture_default_str();
  command->add_option("--rounds", settings.rounds, "times that the mesh is formed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  AddOutput(command, commands.output);
}

void AddFloorCommand(Commands& commands) {
  CLI::App* floor =
      commands.Add("floor", "serve as the least that a server can be: answers 'unknown'",
                   [&] { return RunFloor(commands.floor_address, commands.floor_port); });
  floor->add_option("--address", commands.floor_address, "IP address")->capture_default_str();
  floor->add_option("--port", commands.floor_port, "port")->required();
}

int Main(int argc, char** argv) {
  CLI::App app("Load test for Erlang port mappers (EPMD).", "epmd-bench");
  app.set_version_flag("--version", "epmd-bench " EVERMAP_VERSION);
  app.require_subcommand(1);
  Commands commands{.app = app};
  AddWorkloads(commands);
  AddCompareCommand(commands);
  AddMeshCommand(commands);
  AddSuiteCommand(commands);
  AddFloorCommand(commands);
  CLI11_PARSE(app, argc, argv);
  return commands.Run();
}

}  // namespace
}  // namespace evermap::bench

int main(int argc, char** argv) { return evermap::bench::Main(argc, argv); }
