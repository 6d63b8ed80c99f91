// epmdctl: what an Evermap mapper knows and does, read from its registry in shared memory or asked
// over TCP, and its upgrade.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
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

int Main(int argc, char** argv) {
  CLI::App app(
      "Shows what an Evermap port mapper knows and does, which it reads from shared memory, says "
      "why a node cannot be found, and upgrades the mapper.",
      "epmdctl");
  app.set_version_flag("--version", "epmdctl " EVERMAP_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  std::string path;
  uint16_t port = 4369;
  bool json = false;
  app.add_option("--port", port, "port of the mapper")
      ->envname("ERL_EPMD_PORT")
      ->capture_default_str();
  app.add_option(
      "--registry", path,
      "registry file (default: where the mapper on that port, this user's or the system's, keeps "
      "it)");
  app.add_flag("--json", json, "print JSON");
  bool all = false;
  CLI::App* list = app.add_subcommand("list", "print all registered nodes");
  list->add_flag("--all", all, "also print names that are only remembered");
  std::string node;
  CLI::App* lookup =
      app.add_subcommand("lookup", "print one node; exit code 1 when it is not registered");
  lookup
      ->add_option("NAME", node,
                   "NAME: from shared memory, else from the mapper on 127.0.0.1; NAME@HOST: from "
                   "the mapper on that host")
      ->required();
  std::string host;
  CLI::App* names = app.add_subcommand("names", "print the nodes that a host's mapper knows");
  names->add_option("HOST", host, "name or IP address")->required();
  CLI::App* status = app.add_subcommand(
      "status", "print what the mapper is and does; exit code 3 when it does not run");
  double watch_interval_s = kWatchIntervalDefaultS;
  CLI::App* watch =
      app.add_subcommand("watch", "print what happens to nodes and to the mapper, as it happens");
  watch->add_option("--interval", watch_interval_s, "seconds between two looks")
      ->check(CLI::Range(kWatchIntervalMinS, kWatchIntervalMaxS))
      ->capture_default_str();
  double top_interval_s = kTopIntervalDefaultS;
  bool once = false;
  CLI::App* top = app.add_subcommand("top", "show what the mapper does, until q is pressed");
  top->add_option("--interval", top_interval_s, "seconds from one sample to the next")
      ->check(CLI::Range(kTopIntervalMinS, kTopIntervalMaxS))
      ->capture_default_str();
  top->add_flag("--once", once, "print one sample, after one interval");
  CLI::App* doctor = app.add_subcommand(
      "doctor", "say why a node cannot be found; exit code 1 when a check failed");
  doctor->add_option("NAME", node, "NAME or NAME@HOST (default: examine the mapper only)");
  std::string binary;
  int timeout_s = kUpgradeTimeoutDefaultS;
  CLI::App* upgrade = app.add_subcommand(
      "upgrade",
      "replace the running mapper; exit code 1 when that fails, and it goes on as before");
  upgrade->add_option("BINARY", binary, "the new mapper (default: the one that runs, read anew)");
  upgrade->add_option("--timeout", timeout_s, "seconds to wait for the outcome")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  CurrentRegistry registry(path.empty() ? UsualRegistryPath(port) : path);
  if (list->parsed()) return ListNodes(registry, all, json);
  if (lookup->parsed()) return LookupNode(registry, port, node, json);
  if (names->parsed()) return ListNames(host, port, json);
  if (status->parsed()) return ShowStatus(registry, json);
  if (watch->parsed()) return Watch(registry, absl::Seconds(watch_interval_s), json);
  if (top->parsed()) return Top(registry, absl::Seconds(top_interval_s), once, json);
  if (doctor->parsed()) return Diagnose(registry, port, node, json);
  return upgrade->parsed() ? Upgrade(registry, binary, timeout_s, json) : 0;
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
