// epmdctl: what an Evermap mapper knows, read from its registry in shared memory, which needs no
// running mapper; and its upgrade.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "registry/reader.h"
#include "registry/registration.h"
#include "registry/registry.h"
#include "tools/upgrade_command.h"

namespace evermap {
namespace {

constexpr int kExitNotFound = 1;
constexpr int kExitNoRegistry = 2;

const char* StateText(RegistrationState state) {
  switch (state) {
    case RegistrationState::kLive:
      return "live";
    case RegistrationState::kOrphaned:
      return "orphaned";
    case RegistrationState::kRemembered:
      return "remembered";
  }
  return "unknown";
}

// ISO 8601, UTC, in seconds.
std::string TimeText(int64_t unix_ns) {
  const time_t seconds = unix_ns / 1'000'000'000;
  tm utc = {};
  char text[32] = "";
  if (gmtime_r(&seconds, &utc) != nullptr) strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

nlohmann::json ToJson(const Registration& node) {
  return {
      {"name", node.name()},
      {"port", node.port},
      {"creation", node.creation},
      {"since", TimeText(node.since_unix_ns)},
      {"state", StateText(node.state)},
      {"hidden", node.node_type == 72},
      {"highest_version", node.highest_version},
      {"lowest_version", node.lowest_version},
  };
}

void PrintJson(const nlohmann::json& value) {
  // Names are any bytes; what is no UTF-8 is shown as the replacement character.
  const std::string text = value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

// Control characters would do things to a terminal.
std::string Printable(std::string_view name) {
  std::string text(name);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

void PrintRow(const Registration& node) {
  std::printf("%-32s %5u %10u  %s  %s\n", Printable(node.name()).c_str(), unsigned{node.port},
              node.creation, TimeText(node.since_unix_ns).c_str(), StateText(node.state));
}

void PrintHead() {
  std::printf("%-32s %5s %10s  %-20s  %s\n", "NAME", "PORT", "CREATION", "SINCE", "STATE");
}

int List(const RegistryView& view, bool all, bool json) {
  std::vector<Registration> nodes;
  Registration node;
  const uint32_t slots = view.slots_used();
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, node)) continue;
    if (all || node.state != RegistrationState::kRemembered) nodes.push_back(node);
  }
  std::sort(nodes.begin(), nodes.end(),
            [](const Registration& a, const Registration& b) { return a.name() < b.name(); });
  if (json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Registration& listed : nodes) list.push_back(ToJson(listed));
    PrintJson(list);
    return 0;
  }
  PrintHead();
  for (const Registration& listed : nodes) PrintRow(listed);
  return 0;
}

int Lookup(const RegistryView& view, const std::string& name, bool json) {
  Registration node;
  if (!view.Lookup(name, node)) {
    std::fprintf(stderr, "epmdctl: %s is not registered\n", name.c_str());
    return kExitNotFound;
  }
  if (json) {
    PrintJson(ToJson(node));
  } else {
    PrintHead();
    PrintRow(node);
  }
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("Shows what an Evermap port mapper knows, out of shared memory, and upgrades it.",
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
  std::string program;
  CLI::App* upgrade = app.add_subcommand(
      "upgrade",
      "replace the running mapper; exit code 1 when it failed and the old one serves on");
  upgrade->add_option("BINARY", program, "the new program (default: the file it was started from)");
  CLI11_PARSE(app, argc, argv);

  if (path.empty()) path = DefaultRegistryPath(port);
  if (upgrade->parsed()) return UpgradeMapper(path, program);
  std::string error;
  const std::unique_ptr<Reader> reader = Reader::Open(path, error);
  if (reader == nullptr) {
    std::fprintf(stderr, "epmdctl: %s\n", error.c_str());
    return kExitNoRegistry;
  }
  return list->parsed() ? List(reader->view(), all, json) : Lookup(reader->view(), name, json);
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
