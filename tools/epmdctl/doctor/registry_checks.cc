#include "tools/epmdctl/doctor/registry_checks.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/wire/client.h"
#include "registry/registration.h"
#include "tools/epmdctl/doctor/host_checks.h"
#include "tools/epmdctl/remote.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

// Attempts to compare shared memory with an answer over TCP. Nodes that come or go in between make
// a difference that means nothing, so it is then tried again.
constexpr int kComparisonsMax = 5;

struct NamedNodes {
  std::set<std::string> names;
  uint64_t generation = 0;
};

NamedNodes NodesIn(const RegistryView& view) {
  NamedNodes nodes;
  nodes.generation = view.generation();
  Registration node;
  for (uint32_t slot = 0; slot < view.slots_used(); ++slot) {
    if (view.ReadSlot(slot, node) && node.state != RegistrationState::kRemembered) {
      nodes.names.emplace(node.name());
    }
  }
  return nodes;
}

std::vector<std::string> OnlyIn(const std::set<std::string>& here,
                                const std::set<std::string>& there) {
  std::vector<std::string> names;
  std::set_difference(here.begin(), here.end(), there.begin(), there.end(),
                      std::back_inserter(names));
  return names;
}

struct Differences {
  std::vector<std::string> only_in_memory;
  std::vector<std::string> only_over_tcp;
  bool empty() const { return only_in_memory.empty() && only_over_tcp.empty(); }
};

// Nothing when either side cannot be asked.
std::optional<Differences> FindDifferences(CurrentRegistry& registry, uint16_t port) {
  Differences differences;
  std::string error;
  for (int i = 0; i < kComparisonsMax; ++i) {
    NamedNodes in_memory;
    const auto collect = [&](const RegistryView& view) { in_memory = NodesIn(view); };
    if (!registry.Read(collect, error)) return std::nullopt;
    const auto answer = Client(kThisHost, port, {.timeout = kProbeTimeout}).Names();
    if (!answer.ok()) return std::nullopt;
    std::set<std::string> over_tcp;
    for (const Client::NamedPort& node : *answer) over_tcp.insert(node.name);
    differences = {OnlyIn(in_memory.names, over_tcp), OnlyIn(over_tcp, in_memory.names)};
    bool is_stable = false;
    const auto compare = [&](const RegistryView& view) {
      is_stable = view.generation() == in_memory.generation;
    };
    if (!registry.Read(compare, error)) return std::nullopt;
    if (is_stable || differences.empty()) break;
  }
  return differences;
}

}  // namespace

RegistryFindings ExamineRegistry(CurrentRegistry& registry, Report& report) {
  RegistryFindings findings;
  std::string error;
  uint32_t registered = 0;
  findings.can_be_read = registry.Read(
      [&](const RegistryView& view) {
        findings.mapper = view.mapper_status();
        registered = view.CountLive();
      },
      error);
  if (!findings.can_be_read) {
    report.Say(
        "registry", Verdict::kWarning, error,
        "nothing to do if the mapper is another epmd than Evermap's; else name its registry with "
        "--registry");
    return findings;
  }
  const MapperStatus& mapper = findings.mapper;
  findings.mapper_runs = IsRunning(mapper);
  report.Say("registry", Verdict::kOk,
             absl::StrFormat("%s: %s registered", registry.path(), NodesText(registered)));
  if (findings.mapper_runs) {
    report.Say("mapper process", Verdict::kOk,
               absl::StrFormat("runs: pid %d, version %s, since %s", mapper.pid, mapper.version,
                               TimeText(mapper.started_unix_ns)));
  } else {
    report.Say("mapper process", Verdict::kFailed,
               mapper.pid == 0 ? "no mapper has ever written to this registry"
                               : absl::StrFormat("pid %d, the last one, does not run", mapper.pid),
               "start the mapper: epmd -daemon, or systemctl start epmd");
  }
  return findings;
}

void CompareAnswers(CurrentRegistry& registry, uint16_t port, Report& report) {
  const std::optional<Differences> differences = FindDifferences(registry, port);
  if (!differences.has_value()) return;
  if (differences->empty()) {
    report.Say("one mapper", Verdict::kOk, "registry and TCP name the same nodes");
    return;
  }
  const auto& [only_in_memory, only_over_tcp] = *differences;
  std::string text =
      "registry and TCP differ, so another mapper answers than the one whose registry this is;";
  if (!only_in_memory.empty()) {
    absl::StrAppend(&text, " only in the registry: ", Listed(only_in_memory));
  }
  if (!only_over_tcp.empty()) {
    absl::StrAppend(&text, only_in_memory.empty() ? "" : ";",
                    " only over TCP: ", Listed(only_over_tcp));
  }
  report.Say("one mapper", Verdict::kFailed, text,
             "end the one that is not wanted, or name the right --port and --registry");
}

}  // namespace evermap
