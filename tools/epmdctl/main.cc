// epmdctl: what an Evermap mapper knows and does, read from its registry in shared memory or asked
// over TCP, and its upgrade. This is its command line.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "registry/location.h"
#include "tools/epmdctl/current_registry.h"
#include "tools/epmdctl/doctor/doctor_command.h"
#include "tools/epmdctl/list_command.h"
#include "tools/epmdctl/lookup_command.h"
#include "tools/epmdctl/names_command.h"
#include "tools/epmdctl/status_command.h"
#include "tools/epmdctl/top_command.h"
#include "tools/epmdctl/upgrade_command.h"
#include "tools/epmdctl/watch_command.h"

namespace evermap {
namespace {

// What the command line says, for all commands.
struct Arguments {
  std::string registry_path;  // empty: not given
  uint16_t port = 4369;
  bool json = false;
  bool all = false;
  std::string node;
  std::string host;
  double watch_interval_s = kWatchIntervalDefaultS;
  double top_interval_s = kTopIntervalDefaultS;
  bool once = false;
  std::string binary;
  int timeout_s = kUpgradeTimeoutDefaultS;
};

void AddGlobalOptions(CLI::App& app, Arguments& arguments) {
  app.add_option("--port", arguments.port, "port of the mapper")
      ->envname("ERL_EPMD_PORT")
      ->capture_default_str();
  app.add_option(
      "--registry", arguments.registry_path,
      "registry file (default: where the mapper on that port, this user's or the system's, keeps "
      "it)");
  app.add_flag("--json", arguments.json, "print JSON");
}

// Commands that print once and end.
void AddQueries(CLI::App& app, Arguments& arguments) {
  CLI::App* list = app.add_subcommand("list", "print all registered nodes");
  list->add_flag("--all", arguments.all, "also print names that are only remembered");
  CLI::App* lookup =
      app.add_subcommand("lookup", "print one node; exit code 1 when it is not registered");
  lookup
      ->add_option("NAME", arguments.node,
                   "NAME: from shared memory, else from the mapper on 127.0.0.1; NAME@HOST: from "
                   "the mapper on that host")
      ->required();
  CLI::App* names = app.add_subcommand("names", "print the nodes that a host's mapper knows");
  names->add_option("HOST", arguments.host, "name or IP address")->required();
  app.add_subcommand("status",
                     "print what the mapper is and does; exit code 3 when it does not run");
}

// Commands that go on until they are ended.
void AddMonitors(CLI::App& app, Arguments& arguments) {
  CLI::App* watch =
      app.add_subcommand("watch", "print what happens to nodes and to the mapper, as it happens");
  watch->add_option("--interval", arguments.watch_interval_s, "seconds between two looks")
      ->check(CLI::Range(kWatchIntervalMinS, kWatchIntervalMaxS))
      ->capture_default_str();
  CLI::App* top = app.add_subcommand("top", "show what the mapper does, until q is pressed");
  top->add_option("--interval", arguments.top_interval_s, "seconds from one sample to the next")
      ->check(CLI::Range(kTopIntervalMinS, kTopIntervalMaxS))
      ->capture_default_str();
  top->add_flag("--once", arguments.once, "print one sample, after one interval");
}

void AddOperations(CLI::App& app, Arguments& arguments) {
  CLI::App* doctor = app.add_subcommand(
      "doctor", "say why a node cannot be found; exit code 1 when a check failed");
  doctor->add_option("NAME", arguments.node,
                     "NAME or NAME@HOST (default: examine the mapper only)");
  CLI::App* upgrade = app.add_subcommand(
      "upgrade",
      "replace the running mapper; exit code 1 when that fails, and it goes on as before");
  upgrade->add_option("BINARY", arguments.binary,
                      "the new mapper (default: the one that runs, read anew)");
  upgrade->add_option("--timeout", arguments.timeout_s, "seconds to wait for the outcome")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
}

// Runs the command that the command line names, and returns the exit code.
int Run(const CLI::App& app, const Arguments& arguments) {
  CurrentRegistry registry(arguments.registry_path.empty()
                               ? UsualRegistryPath(arguments.port, Preference::kOwn)
                               : arguments.registry_path);
  const uint16_t port = arguments.port;
  const bool json = arguments.json;
  if (app.got_subcommand("list")) return ListNodes(registry, arguments.all, json);
  if (app.got_subcommand("lookup")) return LookupNode(registry, port, arguments.node, json);
  if (app.got_subcommand("names")) return ListNames(arguments.host, port, json);
  if (app.got_subcommand("status")) return ShowStatus(registry, json);
  if (app.got_subcommand("watch")) {
    return Watch(registry, absl::Seconds(arguments.watch_interval_s), json);
  }
  if (app.got_subcommand("top")) {
    return Top(registry, absl::Seconds(arguments.top_interval_s), arguments.once, json);
  }
  if (app.got_subcommand("doctor")) return Diagnose(registry, port, arguments.node, json);
  return Upgrade(registry, arguments.binary, arguments.timeout_s, json);
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Shows what an Evermap port mapper knows and does, which it reads from shared memory, says "
      "why a node cannot be found, and upgrades the mapper.",
      "epmdctl");
  app.set_version_flag("--version", "epmdctl " EVERMAP_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  Arguments arguments;
  AddGlobalOptions(app, arguments);
  AddQueries(app, arguments);
  AddMonitors(app, arguments);
  AddOperations(app, arguments);
  CLI11_PARSE(app, argc, argv);
  return Run(app, arguments);
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
