// epmd-bench: how an Erlang port mapper behaves under load. This is its command line.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "bench/commands.h"
#include "bench/load/load.h"
#include "bench/load/source_addresses.h"

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

struct Commands {
  WorkloadSettings lookup{.command = "lookup"};
  double unknown_share = 0;
  WorkloadSettings names{.command = "names", .mix = {.names = 1}};
  WorkloadSettings registrations{.command = "register", .mix = {.registrations = 1}};
  WorkloadSettings storm{
      .command = "storm", .mix = {.registrations = 1}, .nodes = 1000, .is_storm = true};
  WorkloadSettings mixed{.command = "mixed",
                         .mix = {.known = 90, .unknown = 5, .names = 1, .registrations = 4}};
  WorkloadSettings idle{.command = "idle", .idle = 1000};
  WorkloadSettings restart{.command = "restart", .rate_per_s = 1000, .seconds = 6};
  CompareSettings compare;
  SuiteOptions suite;
  std::string floor_address = "127.0.0.1";
  uint16_t floor_port = 0;
  OutputSettings output;
};

CLI::App* AddWorkload(CLI::App& app, WorkloadSettings& settings, OutputSettings& output,
                      const std::string& description) {
  CLI::App* command = app.add_subcommand(settings.command, description);
  AddTarget(command, settings);
  if (!settings.is_storm) {
    AddNodes(command, settings, "nodes to register before");
    AddLoad(command, settings);
  }
  AddOutput(command, output);
  return command;
}

void AddWorkloads(CLI::App& app, Commands& commands) {
  CLI::App* lookup = AddWorkload(app, commands.lookup, commands.output, "look nodes up");
  lookup->add_option("--unknown", commands.unknown_share, "share of names that nobody has, 0 to 1")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  AddCompare(lookup, commands.lookup);

  AddCompare(AddWorkload(app, commands.names, commands.output, "ask for all names"),
             commands.names);

  CLI::App* registrations = AddWorkload(app, commands.registrations, commands.output,
                                        "register nodes, which leave as soon as they are");
  registrations
      ->add_option("--names-per-connection", commands.registrations.names_per_connection,
                   "names that a connection registers in turn; 1: the same at once again")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  AddCompare(registrations, commands.registrations);

  CLI::App* storm = AddWorkload(app, commands.storm, commands.output,
                                "register many nodes at once, as after a power cut");
  AddNodes(storm, commands.storm, "nodes that register");
  AddCompare(storm, commands.storm);

  CLI::App* mixed = AddWorkload(app, commands.mixed, commands.output, "all of it, in shares");
  Mix& mix = commands.mixed.mix;
  mixed->add_option("--known", mix.known, "share of lookups of nodes")->capture_default_str();
  mixed->add_option("--unknown", mix.unknown, "share of lookups of names that nobody has")
      ->capture_default_str();
  mixed->add_option("--names", mix.names, "share of requests for all names")->capture_default_str();
  mixed->add_option("--register", mix.registrations, "share of registrations")
      ->capture_default_str();
  AddCompare(mixed, commands.mixed);

  AddWorkload(app, commands.idle, commands.output,
              "look nodes up while other connections say nothing");

  CLI::App* restart = AddWorkload(app, commands.restart, commands.output,
                                  "look nodes up while a command restarts the server");
  restart->add_option("--command", commands.restart.restart_command, "command for /bin/sh")
      ->required();
  restart->add_option("--after", commands.restart.restart_after_s, "seconds until it is run")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  restart->add_flag_callback(
      "--old-nodes", [&commands] { commands.restart.nodes_register_again = false; },
      "nodes do not register again when they lose their connection, as before OTP 24");
}

void AddCompareCommand(CLI::App& app, Commands& commands) {
  CompareSettings& settings = commands.compare;
  CLI::App* command = app.add_subcommand(
      "compare", "start two mappers on one core, the load on another, and measure them in turn");
  command->add_option("--stock", settings.stock, "program of the stock epmd")->required();
  command->add_option("--ours", settings.ours, "program of Evermap's mapper")->required();
  command->add_option("--ours-arg", settings.ours_arguments, "an argument for it, such as -loop")
      ->allow_extra_args(false);
  command->add_option("--workload", settings.workload, "lookup, names or register")
      ->capture_default_str();
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

void AddSuiteCommand(CLI::App& app, Commands& commands) {
  SuiteOptions& options = commands.suite;
  CLI::App* command = app.add_subcommand(
      "suite", "start the stock epmd, ours and the floor, and print the table of budgets");
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

int Main(int argc, char** argv) {
  CLI::App app("Load test for Erlang port mappers (EPMD).", "epmd-bench");
  app.set_version_flag("--version", "epmd-bench " EVERMAP_VERSION);
  app.require_subcommand(1);
  Commands commands;
  AddWorkloads(app, commands);
  AddCompareCommand(app, commands);
  AddSuiteCommand(app, commands);
  CLI::App* floor =
      app.add_subcommand("floor", "serve as the least that a server can be: answers 'unknown'");
  floor->add_option("--address", commands.floor_address, "IP address")->capture_default_str();
  floor->add_option("--port", commands.floor_port, "port")->required();
  CLI11_PARSE(app, argc, argv);

  commands.lookup.mix = {.known = 1 - commands.unknown_share, .unknown = commands.unknown_share};
  for (const WorkloadSettings* workload :
       {&commands.lookup, &commands.names, &commands.registrations, &commands.storm,
        &commands.mixed, &commands.idle, &commands.restart}) {
    if (app.got_subcommand(workload->command)) return RunWorkload(*workload, commands.output);
  }
  if (app.got_subcommand("compare")) return RunCompare(commands.compare, commands.output);
  if (app.got_subcommand("suite")) return RunSuiteCommand(commands.suite, commands.output);
  return RunFloor(commands.floor_address, commands.floor_port);
}

}  // namespace
}  // namespace evermap::bench

int main(int argc, char** argv) { return evermap::bench::Main(argc, argv); }
