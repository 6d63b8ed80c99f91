// epmdctl: what an Evermap mapper knows and does, read from its registry in shared memory or asked
// over TCP, and its upgrade. This is its command line.
#include <CLI/CLI.hpp>
#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "daemon/wire/protocol.h"
#include "registry/location.h"
#include "tools/epmdctl/current_registry.h"
#include "tools/epmdctl/doctor/doctor_command.h"
#include "tools/epmdctl/forget_command.h"
#include "tools/epmdctl/list_command.h"
#include "tools/epmdctl/lookup_command.h"
#include "tools/epmdctl/names_command.h"
#include "tools/epmdctl/restart_alone_command.h"
#include "tools/epmdctl/settings_command.h"
#include "tools/epmdctl/status_command.h"
#include "tools/epmdctl/top_command.h"
#include "tools/epmdctl/upgrade_command.h"
#include "tools/epmdctl/view/output.h"
#include "tools/epmdctl/watch_command.h"
#include "tools/port_variable.h"

namespace evermap {
namespace {

// What the command line says, for all commands.
struct Arguments {
  std::string registry_path;  // empty: not given
  std::optional<uint16_t> port;
  bool json = false;
  bool all = false;
  std::string node;
  std::string peer;
  std::string host;
  std::string unit;
  double watch_interval_s = kWatchIntervalDefaultS;
  double top_interval_s = kTopIntervalDefaultS;
  bool once = false;
  bool check = false;
  std::string binary;
  int timeout_s = kUpgradeTimeoutDefaultS;
  int reload_timeout_s = kReloadTimeoutDefaultS;
};

// What a command does; it returns the exit code.
using Action = int (*)(CurrentRegistry& registry, const Arguments& arguments);

// The mapper that is meant.
uint16_t PortOf(CurrentRegistry& registry, const Arguments& said) {
  if (said.port.has_value()) return *said.port;
  uint16_t port = 0;
  std::string error;
  if (!said.registry_path.empty()) {
    registry.Read([&port](const RegistryView& view) { port = view.port(); }, error);
  }
  return port != 0 ? port : protocol::kDefaultPort;
}

struct Commands {
  CLI::App* Add(const std::string& name, const std::string& help, Action action) {
    CLI::App* const command = app.add_subcommand(name, help);
    actions.emplace_back(command, action);
    return command;
  }

  CLI::App& app;
  std::vector<std::pair<const CLI::App*, Action>> actions = {};
};

void AddGlobalOptions(CLI::App& app, Arguments& arguments) {
  app.add_option("--port", arguments.port,
                 "port of the mapper (default: that of the registry, if one is given, or 4369)")
      ->envname(kPortVariable);
  app.add_option(
      "--registry", arguments.registry_path,
      "registry file (default: where the mapper on that port, this user's or the system's, keeps "
      "it)");
  app.add_flag("--json", arguments.json, "print JSON");
}

// Commands that print once and end.
void AddQueries(Commands& commands, Arguments& arguments) {
  CLI::App* list = commands.Add("list", "print all registered nodes",
                                [](CurrentRegistry& registry, const Arguments& said) {
                                  return ListNodes(registry, said.all, said.json);
                                });
  list->add_flag("--all", arguments.all, "also print names that are only remembered");
  CLI::App* lookup =
      commands.Add("lookup", "print one node; exit code 1 when it is not registered",
                   [](CurrentRegistry& registry, const Arguments& said) {
                     return LookupNode(registry, PortOf(registry, said), said.node, said.json);
                   });
  lookup
      ->add_option("NAME", arguments.node,
                   "NAME: from shared memory, else from the mapper on 127.0.0.1; NAME@HOST: from "
                   "the mapper on that host")
      ->required();
  CLI::App* names = commands.Add("names", "print the nodes that a host's mapper knows",
                                 [](CurrentRegistry& registry, const Arguments& said) {
                                   return ListNames(said.host, PortOf(registry, said), said.json);
                                 });
  names->add_option("HOST", arguments.host, "name or IP address")->required();
  commands.Add("config", "print the mapper's settings, and where each comes from",
               [](CurrentRegistry& registry, const Arguments& said) {
                 return ShowSettings(registry, said.json);
               });
  commands
      .Add("status", "print what the mapper is and does; exit code 3 when it does not run",
           [](CurrentRegistry& registry, const Arguments& said) {
             return said.check ? CheckStatus(registry) : ShowStatus(registry, said.json);
           })
      ->add_flag("--check", arguments.check,
                 "print one line, with the exit code of a monitoring plugin: 0 well, 1 warning, 2 "
                 "critical, 3 unknown");
}

// Commands that go on until they are ended.
void AddMonitors(Commands& commands, Arguments& arguments) {
  CLI::App* watch =
      commands.Add("watch", "print what happens to nodes and to the mapper, as it happens",
                   [](CurrentRegistry& registry, const Arguments& said) {
                     return Watch(registry, absl::Seconds(said.watch_interval_s), said.json);
                   });
  watch
      ->add_option("--interval", arguments.watch_interval_s,
                   "seconds between two looks where the mapper does not tell of changes")
      ->check(CLI::Range(kWatchIntervalMinS, kWatchIntervalMaxS))
      ->capture_default_str();
  CLI::App* top =
      commands.Add("top", "show what the mapper does, until q is pressed",
                   [](CurrentRegistry& registry, const Arguments& said) {
                     return Top(registry, absl::Seconds(said.top_interval_s), said.once, said.json);
                   });
  top->add_option("--interval", arguments.top_interval_s, "seconds from one sample to the next")
      ->check(CLI::Range(kTopIntervalMinS, kTopIntervalMaxS))
      ->capture_default_str();
  top->add_flag("--once", arguments.once, "print one sample, after one interval");
}

void AddOperations(Commands& commands, Arguments& arguments) {
  CLI::App* doctor = commands.Add(
      "doctor", "say why a node cannot be found; exit code 1 when a check failed",
      [](CurrentRegistry& registry, const Arguments& said) {
        return Diagnose(registry, PortOf(registry, said), said.node, said.peer, said.json);
      });
  doctor->add_option("NAME", arguments.node,
                     "NAME or NAME@HOST (default: examine the mapper only)");
  doctor->add_option("PEER", arguments.peer,
                     "another NAME or NAME@HOST: say, step by step, whether the first node, which "
                     "runs on this host, can reach it");
  CLI::App* forget = commands.Add(
      "forget",
      "end one registration, also an orphan, and say whose it was; exit code 1 when there is none",
      [](CurrentRegistry& registry, const Arguments& said) {
        return Forget(registry, said.node, said.json);
      });
  forget->add_option("NAME", arguments.node, "the part before the @")->required();
  CLI::App* reload =
      commands.Add("reload",
                   "have the running mapper take its settings anew; exit code 1 when they are "
                   "wrong, and it goes "
                   "on as before",
                   [](CurrentRegistry& registry, const Arguments& said) {
                     return ReloadSettings(registry, said.reload_timeout_s, said.json);
                   });
  reload->add_option("--timeout", arguments.reload_timeout_s, "seconds to wait for the outcome")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  CLI::App* upgrade = commands.Add(
      "upgrade",
      "replace the running mapper; exit code 1 when that fails, and it goes on as before",
      [](CurrentRegistry& registry, const Arguments& said) {
        return Upgrade(registry, said.binary, said.timeout_s, said.json);
      });
  upgrade->add_option("BINARY", arguments.binary,
                      "the new mapper (default: the one that runs, read anew)");
  upgrade->add_option("--timeout", arguments.timeout_s, "seconds to wait for the outcome")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  commands
      .Add("restart-alone",
           "for ExecStopPost= of epmd.service: have systemd start it again when a signal has ended "
           "its mapper, and not what requires it",
           [](CurrentRegistry&, const Arguments& said) { return RestartAlone(said.unit); })
      ->add_option("UNIT", arguments.unit, "name of the unit")
      ->required();
}

// Runs the command that the command line names, and returns the exit code.
int Run(const Commands& commands, const Arguments& arguments) {
  CurrentRegistry registry(
      arguments.registry_path.empty()
          ? UsualRegistryPath(arguments.port.value_or(protocol::kDefaultPort), Preference::kOwn)
          : arguments.registry_path);
  for (const auto& [command, action] : commands.actions) {
    if (command->parsed()) return action(registry, arguments);
  }
  assert(false);  // Main() has required one of them.
  return 1;
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Shows what an Evermap port mapper knows and does, which it reads from shared memory, says "
      "why a node cannot be found, and upgrades the mapper.",
      "epmdctl");
  app.set_version_flag("--version", "epmdctl " EVERMAP_VERSION);
  // None is looked at below: with 1, a word that is no command would be answered with the number of
  // commands, and not with the word.
  app.require_subcommand(0, 1);
  app.fallthrough();
  Arguments arguments;
  AddGlobalOptions(app, arguments);
  Commands commands{.app = app};
  AddQueries(commands, arguments);
  AddMonitors(commands, arguments);
  AddOperations(commands, arguments);
  TakePortVariableAsAtoi("epmdctl");
  CLI11_PARSE(app, argc, argv);
  if (app.get_subcommands().empty()) return app.exit(CLI::RequiredError("A command"));
  return AfterOutput(Run(commands, arguments));
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
