#include "daemon/names/registrar.h"

#include <sys/socket.h>

#include <atomic>
#include <cassert>
#include <vector>

#include "daemon/host/log.h"
#include "daemon/host/sock_diag.h"
#include "daemon/names/orphans.h"
#include "registry/counters.h"

namespace evermap {
namespace {

// Attempts to get a name after its holder was found to have left. Each fails only because yet
// another node took the name in between.
constexpr int kRegisterRetriesMax = 8;
// Looks at a holder before a name is refused. On a busy machine a node that is stopped and started
// again may overtake the end of its own connection: three of some three million did, and the next
// look, a few microseconds later, saw it. Each look adds four system calls to a refusal.
constexpr int kHolderLooksMax = 3;

// Slots that are looked at before it is asked whether that is enough.
constexpr uint32_t kSlotsPerLook = 256;

Decision::Outcome OutcomeOf(RegisterResult::Outcome outcome) {
  switch (outcome) {
    case RegisterResult::Outcome::kRegistered:
      return Decision::Outcome::kRegistered;
    case RegisterResult::Outcome::kTaken:
      return Decision::Outcome::kTaken;
    case RegisterResult::Outcome::kFull:
      return Decision::Outcome::kRegistryFull;
    case RegisterResult::Outcome::kInvalid:
      return Decision::Outcome::kInvalid;
  }
  return Decision::Outcome::kInvalid;
}

}  // namespace

Decision Registrar::Register(NodeRecord node, int fd) {
  Decision decision;
  if (IsReservedForAnother(node.name, fd, decision)) {
    decision.outcome = Decision::Outcome::kReserved;
    return decision;
  }
  if (!custody_.Reserve()) {
    decision.outcome = Decision::Outcome::kNoDescriptors;
    return decision;
  }
  node.connection_cookie = SocketCookie(fd);
  const Registering::Step step(registering_);
  RegisterResult result;
  const bool is_decided = AskRegistry(node, fd, result);
  decision.outcome = is_decided ? OutcomeOf(result.outcome) : Decision::Outcome::kLater;
  decision.registration = {result.slot, result.id};
  if (decision.outcome != Decision::Outcome::kRegistered) {
    custody_.Release();
    return decision;
  }
  decision.creation = result.creation;
  custody_.Hold(result.slot, fd);
  return decision;
}

bool Registrar::IsReservedForAnother(std::string_view name, int fd, Decision& decision) {
  const Reservations::Holder* const holder = reservations_.HolderOf(name);
  if (holder == nullptr) return false;
  const uint32_t uid = socket_query_.PeerUid(fd);
  if (holder->Has(uid)) return false;
  decision.reserved_for = holder;
  decision.asking_uid = uid;
  return true;
}

bool Registrar::AskRegistry(const NodeRecord& node, int fd, RegisterResult& result) {
  Registration holder;
  int looks = 0;
  for (int retries = 0;; ++retries) {
    result = registry_.Register(node);
    if (result.outcome != RegisterResult::Outcome::kTaken || retries == kRegisterRetriesMax) {
      return true;
    }
    // The record is claimed by another writer at this moment, which may be about to give the name
    // up: for example the main thread was amending a registration when that was ended.
    if (result.id == 0) {
      if (!registry_.AwaitClaimant(result.slot)) return true;
      continue;
    }
    const RegistrationRef taken_by = {result.slot, result.id};
    if (!IsHeld(taken_by, holder)) continue;
    if (custody_.MayCome(holder)) return false;
    if (holder.state == RegistrationState::kOrphaned) {
      if (SettleOrphan(holder, node, fd, result)) return true;
    } else if (custody_.HasLeft(holder)) {
      if (registry_.Unregister(holder.slot, holder.id)) Count(statistics_.holders_found_gone);
    } else if (IsHeld(taken_by, holder) && ++looks == kHolderLooksMax) {
      // The second IsHeld() says that no other worker ended the registration during the look, so
      // HasLeft() spoke of a connection that was really there.
      return true;
    }
  }
}

bool Registrar::IsHeld(const RegistrationRef& registration, Registration& holder) const {
  return registry_.ReadSlot(registration.slot, holder) && holder.id == registration.id &&
         holder.state != RegistrationState::kRemembered;
}

bool Registrar::HasHungUp(int fd) {
  char byte;
  return recv(fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) == 0;
}

bool Registrar::SettleOrphan(const Registration& orphan, const NodeRecord& node, int fd,
                             RegisterResult& result) {
  assert(orphan.state == RegistrationState::kOrphaned);
  switch (proof_.Of(orphan, node.port, fd)) {
    case Verdict::kRefuse:
      return true;
    case Verdict::kReplace:
      if (registry_.Unregister(orphan.slot, orphan.id)) Count(statistics_.orphans_ended);
      return false;
    case Verdict::kAdopt:
      break;
  }
  if (!registry_.Adopt(orphan.slot, orphan.id, node.connection_cookie)) return false;
  Count(statistics_.adopted);
  result = {RegisterResult::Outcome::kRegistered, orphan.slot, orphan.id, orphan.creation};
  return true;
}

void Registrar::End(const RegistrationRef& registration, int fd) {
  if (registry_.Unregister(registration.slot, registration.id)) {
    Count(statistics_.unregistered);
    Log(Severity::kRegistrations, "unregistered the node of fd %d", fd);
  }
  custody_.GiveUp(registration.slot, fd);
}

void Registrar::EndGoneOrphans() {
  // The connection of what is an orphan now may be about to come.
  if (!custody_.is_complete()) return;
  std::vector<RegistrationRef> orphans;
  std::optional<uint32_t> at = 0;
  bool has_other = false;
  while (at.has_value() && !has_other) {
    at = registry_.ForEachOf(Which::kRegistered, *at, kSlotsPerLook, [&](const Registration& node) {
      if (node.state == RegistrationState::kOrphaned) orphans.push_back({node.slot, node.id});
      if (node.state == RegistrationState::kLive) has_other = true;
    });
  }
  if (has_other || orphans.empty()) return;
  LifeSigns signs;
  Registration orphan;
  for (const RegistrationRef ref : orphans) {
    if (!registry_.ReadSlot(ref.slot, orphan) || orphan.id != ref.id ||
        orphan.state != RegistrationState::kOrphaned) {
      continue;
    }
    // One that lives is enough.
    if (signs.Of(orphan) != Life::kGone) return;
    if (registry_.Unregister(ref.slot, ref.id)) Count(statistics_.orphans_ended);
  }
}

bool Registrar::EndNamed(std::string_view name) {
  Registration holder;
  if (!registry_.Lookup(name, holder) || !registry_.Unregister(holder.slot, holder.id)) {
    return false;
  }
  Count(statistics_.unregistered);
  custody_.Shutdown(holder);
  return true;
}

}  // namespace evermap
