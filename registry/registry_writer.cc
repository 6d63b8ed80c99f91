// A mapper's registry in a process of its own, for the tests of the migration from the newest layout to
// the one in tests/next_layout: opens a registry and does what it is told, one command a line on
// standard input, one answer a line on standard output.
//
// usage: registry_writer PATH [CAPACITY]
//        registry_writer PATH LOG SEED    runs until it is killed: RunVictim()
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "registry/counters.h"
#include "registry/layout.h"
#include "registry/migrate_down.h"
#include "registry/migration.h"
#include "registry/reader.h"
#include "registry/recovery.h"
#include "registry/registry.h"
#include "registry/segment.h"
#include "registry/victim_testing.h"

namespace evermap {
namespace {

// A place that no writer has.
constexpr uint32_t kDeadWriter = 200;
constexpr uint32_t kCapacityDefault = 1000;
constexpr uint16_t kNodesDefault = 300;
int g_crash_at = 0;

// Registrations of all states and sizes, and counters.
void Fill(Registry& registry, uint16_t nodes) {
  for (uint16_t i = 0; i < nodes; ++i) {
    const std::string name = absl::StrCat("node", i, std::string(i % 11 == 0 ? 900 : i % 40, 'n'));
    const RegisterResult node = registry.Register(NodeOf(name, i, ExtraOf(i)));
    if (i % 2 == 0) {
      registry.Amend(node.slot, node.id, {.listener_cookie = uint64_t{i} << 40, .owner_uid = i});
    }
    if (i % 3 == 1) registry.Orphan(node.slot, node.id);
    if (i % 6 == 1) registry.Adopt(node.slot, node.id, i);
    if (i % 5 == 2) registry.Unregister(node.slot, node.id);
  }
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    WorkerStatistics& statistics = registry.statistics(worker);
    statistics.connections_accepted = worker * 1000 + 1;
    statistics.connections_now = worker * 1000 + 2;
    statistics.stored = worker * 1000 + 3;
    statistics.latency_buckets[kLatencyBuckets - 1] = worker * 1000 + 4;
  }
  registry.SetMapperStatus({.pid = 1, .version = "old", .loop = "none"});
  registry.SetUpgradeStatus(
      {.number = 41, .outcome = UpgradeStatus::Outcome::kFailed, .text = "because"});
}

void MoveOn(Segment& segment, uint32_t slot, layout::Kind kind) {
  layout::Word& state = segment.record(slot).state;
  state.store(layout::NextState(state.load(), kind, kDeadWriter));
}

// What a writer leaves that dies in the middle of each operation, one node each.
void LeaveHalfDone(Registry& registry, const std::string& path) {
  Problem problem;
  const auto segment = Segment::Map(path, SegmentAccess::kWrite, problem);
  const auto register_node = [&](const std::string& name) {
    // One that needs no block: the search for one would settle what the others have left.
    return registry.Register(NodeOf(name, 8, ExtraOf(8)));
  };
  MoveOn(*segment, register_node("amending").slot, layout::Kind::kAmending);
  RegisterResult node = register_node("adopting");
  registry.Orphan(node.slot, node.id);
  MoveOn(*segment, node.slot, layout::Kind::kAdopting);
  node = register_node("unregistered");
  MoveOn(*segment, node.slot, layout::Kind::kAdopting);
  registry.Unregister(node.slot, node.id);
  node = register_node("reregistering");
  registry.Unregister(node.slot, node.id);
  MoveOn(*segment, node.slot, layout::Kind::kClaimed);
  // Marked, but still on its chain.
  node = register_node("retiring");
  registry.Unregister(node.slot, node.id);
  RaiseCreationFloor(*segment, node.creation);
  MoveOn(*segment, node.slot, layout::Kind::kRetiring);
  layout::Word& next = segment->record(node.slot).next;
  next.store(layout::LinkLike(next.load(), next.load(), true));
  // Filled, but on no chain yet.
  const auto unlinked = static_cast<uint32_t>(segment->header().high_water.fetch_add(1));
  layout::Record& record = segment->record(unlinked);
  record.sizes.store(layout::Sizes(8, 0, 6, 5));
  record.text[0].store(LoadWord("unlinked", 8));
  record.hash.store(HashName(segment->hash_key(), "unlinked"));
  MoveOn(*segment, unlinked, layout::Kind::kClaimed);
}

std::string Dump(const RegistryView& view) {
  std::ostringstream dump;
  Registration node;
  for (uint32_t slot = 0; slot < view.slots_used(); ++slot) {
    if (view.ReadSlot(slot, node)) dump << Describe(node) << "\n";
  }
  return dump.str();
}

int Main(int argc, char** argv) {
  const std::string path = argv[1];
  if (argc == 4) {
    const int fd = open(argv[2], O_RDWR | O_CLOEXEC);
    void* log = mmap(nullptr, sizeof(VictimLog), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (log == MAP_FAILED) return 1;
    RunVictim(path, *static_cast<VictimLog*>(log), static_cast<unsigned>(atoi(argv[3])));
  }
  const uint32_t capacity = argc == 3 ? static_cast<uint32_t>(atoi(argv[2])) : kCapacityDefault;
  auto opened = Registry::Open({.path = path, .capacity = capacity});
  std::cout << opened.status().ToString() << std::endl;
  if (!opened.ok()) return 1;
  Registry& registry = **opened;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    std::string argument;
    words >> command >> argument;
    std::string answer = "ok";
    if (command == "fill") {
      Fill(registry,
           argument.empty() ? kNodesDefault : static_cast<uint16_t>(atoi(argument.c_str())));
    } else if (command == "half") {
      LeaveHalfDone(registry, path);
    } else if (command == "dump") {
      std::string error;
      answer = Dump(Reader::Open(path, error)->view()) + "end";
    } else if (command == "register") {
      answer = absl::StrCat(registry.Register({.name = argument, .port = 9}).creation);
    } else if (command == "superseded") {
      answer = registry.view().superseded() ? "yes" : "no";
    } else if (command == "restore") {
      answer = registry.RollBackSuccessorsMigration().ToString();
    } else if (command == "down") {
      Problem problem;
      answer = DownCopy::Publish(path, problem) == nullptr ? problem.message : "OK";
    } else if (command == "crash") {
      g_crash_at = atoi(argument.c_str());
      SetMigrationHookForTests([](int step) {
        if (step == g_crash_at) raise(SIGKILL);
      });
    } else {
      answer = "no such command";
    }
    std::cout << answer << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) return 2;
  return evermap::Main(argc, argv);
}
