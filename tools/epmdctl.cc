// epmdctl: what an Evermap mapper knows, read from its registry in shared memory, and its upgrade.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "registry/registry.h"
#include "tools/current_registry.h"
#include "tools/nodes_command.h"
#include "tools/status_command.h"
#include "tools/upgrade_command.h"

namespace evermap {
namespace {

int Main(int argc, char** argv) {
  CLI::App app(
      "Shows what an Evermap port mapper knows, which it reads from shared memory, and upgrades "
      "it.",
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
  app.add_option("--registry", path,
                 "registry file (default: where the mapper on that port keeps it)");
  app.add_flag("--json", json, "print JSON");
  bool all = false;
  CLI::App* list = app.add_subcommand("list", "print all registered nodes");
  list->add_flag("--all", all, "also print names that are only remembered");
  std::string name;
  CLI::App* lookup =
      app.add_subcommand("lookup", "print one node; exit code 1 when it is not registered");
  lookup->add_option("NAME", name, "name, without @HOST")->required();
  CLI::App* status = app.add_subcommand(
      "status", "print what the mapper is and does; exit code 3 when it does not run");
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

  CurrentRegistry registry(path.empty() ? DefaultRegistryPath(port) : path);
  if (list->parsed()) return ListNodes(registry, all, json);
  if (lookup->parsed()) return LookupNode(registry, name, json);
  if (status->parsed()) return ShowStatus(registry, json);
  return upgrade->parsed() ? Upgrade(registry, binary, timeout_s, json) : 0;
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
