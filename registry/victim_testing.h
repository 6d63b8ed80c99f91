// Nodes of which every part follows from a number, so that a mixture of two is seen, and a writer that
// is to be killed while it changes them: for tests and for registry_writer.
#ifndef EVERMAP_REGISTRY_VICTIM_TESTING_H_
#define EVERMAP_REGISTRY_VICTIM_TESTING_H_

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "registry/registration.h"
#include "registry/registry.h"

namespace evermap {

// The extra of the node with this number.
inline std::string ExtraOf(uint64_t number) {
  return std::string(number % 7 == 0 ? 900 : number % 50, static_cast<char>('a' + number % 26));
}
inline NodeRecord NodeOf(const std::string& name, uint16_t number, const std::string& extra) {
  return {.name = name,
          .extra = extra,
          .port = number,
          .highest_version = number,
          .lowest_version = number,
          .connection_cookie = number,
          .owner_pid = number};
}
inline bool IsWhole(const Registration& found, const std::string& name) {
  const uint16_t number = found.port;
  return found.name() == name && found.highest_version == number &&
         found.lowest_version == number && found.connection_cookie == number &&
         found.owner_pid == number &&
         found.extra() == (found.state == RegistrationState::kRemembered ? "" : ExtraOf(number));
}

// All that is known of a registration, in one line.
inline std::string Describe(const Registration& node) {
  return absl::StrCat("slot ", node.slot, " id ", node.id, " state ", static_cast<int>(node.state),
                      " creation ", node.creation, " port ", node.port, " type ", node.node_type,
                      "/", node.protocol, " versions ", node.lowest_version, "-",
                      node.highest_version, " cookies ", node.connection_cookie, " ",
                      node.listener_cookie, " owner ", node.owner_uid, " ", node.owner_pid,
                      " since ", node.since_unix_ns, " left ", node.left_unix_ns, " departure ",
                      node.departure, " name ", absl::CHexEscape(std::string(node.name())),
                      " extra ", absl::CHexEscape(std::string(node.extra())));
}

// What a writer that will be killed has done. It notes what it is about to do, does it, and notes
// that it is done.
inline constexpr size_t kVictimNames = 24;
struct VictimLog {
  std::array<std::atomic<uint64_t>, kVictimNames> id;  // acknowledged, 0: none
  std::array<std::atomic<uint32_t>, kVictimNames> slot;
  std::array<std::atomic<uint32_t>, kVictimNames> creation;
  std::array<std::atomic<uint32_t>, kVictimNames> creation_last;  // of any registration
  std::atomic<uint32_t> pending;  // name under way, kVictimNames: none
  std::atomic<bool> keeps;        // whether what is under way leaves it registered
  std::atomic<uint64_t> operations;
};
inline std::string VictimName(size_t n) {
  return absl::StrCat("victim", n, n % 5 == 0 ? std::string(300, 'v') : "");
}

[[noreturn]] inline void RunVictim(const std::string& path, VictimLog& log, unsigned seed) {
  auto registry = Registry::Open({.path = path});
  if (!registry.ok()) _exit(1);
  std::mt19937 random(seed);
  Registration found;
  while (true) {
    const size_t n = random() % kVictimNames;
    const uint64_t id = log.id[n].load();
    const bool keeps = id != 0 && random() % 2 == 0;
    log.keeps.store(keeps);
    log.pending.store(static_cast<uint32_t>(n));
    const uint32_t slot = log.slot[n].load();
    if (keeps) {
      if (!(*registry)->ReadSlot(slot, found) || found.id != id) _exit(5);
      // Values that do not make it less whole.
      const Amendment what{.listener_cookie = random(), .owner_pid = found.port};
      if (!(*registry)->Amend(slot, id, what)) _exit(6);
      (*registry)->Orphan(slot, id);
      if (!(*registry)->Amend(slot, id, what)) _exit(7);
      if (random() % 2 == 0 && !(*registry)->Adopt(slot, id, found.port)) _exit(8);
    } else if (id != 0) {
      if (!(*registry)->Unregister(slot, id)) _exit(2);
      log.id[n].store(0);
    } else {
      const uint16_t number = static_cast<uint16_t>(random() % 60000);
      const std::string extra = ExtraOf(number);
      const std::string name = VictimName(n);
      const RegisterResult node = (*registry)->Register(NodeOf(name, number, extra));
      if (node.outcome != RegisterResult::Outcome::kRegistered) _exit(3);
      if (node.creation <= log.creation_last[n].load()) _exit(4);
      log.creation_last[n].store(node.creation);
      log.slot[n].store(node.slot);
      log.creation[n].store(node.creation);
      log.id[n].store(node.id);
    }
    log.pending.store(kVictimNames);
    log.operations.fetch_add(1);
  }
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_VICTIM_TESTING_H_
