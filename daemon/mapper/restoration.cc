#include "daemon/mapper/restoration.h"

#include <sys/socket.h>

#include <atomic>
#include <cassert>
#include <utility>

#include "daemon/host/log.h"
#include "daemon/host/sock_diag.h"
#include "registry/base/clock.h"
#include "registry/counters.h"
#include "registry/reader.h"

namespace evermap {
namespace {

// A node lives that is cut off for want of this number.
constexpr int kCookieTries = 3;

uint64_t PatientSocketCookie(int fd) {
  uint64_t cookie = 0;
  for (int i = 0; i < kCookieTries && cookie == 0; ++i) cookie = SocketCookie(fd);
  return cookie;
}

}  // namespace

Restoration::Restoration(Registry& registry, Custody& custody, Inquiry& inquiry, Timers& timers,
                         absl::Duration orphan_grace, Give give)
    : registry_(registry),
      custody_(custody),
      inquiry_(inquiry),
      give_(std::move(give)),
      last_earlier_id_(registry.view().last_id()),
      orphans_(registry, orphan_grace),
      judge_(timers, [this] { JudgeOrphans(); }) {
  assert(give_ != nullptr);
}

size_t Restoration::Restore(std::vector<OwnedFd> connections) {
  size_t held = 0;
  for (OwnedFd& connection : connections) held += RestoreOne(std::move(connection)) ? 1 : 0;
  return held;
}

void Restoration::OrphanTheRest() {
  uint32_t orphaned = 0;
  for (const auto& [cookie, known] : registered_) {
    // A later one is this mapper's, or a predecessor's that still answers what it has accepted.
    if (known.node.id > last_earlier_id_) continue;
    orphaned += MakeOrphan(known) ? 1 : 0;
  }
  registered_ = {};
  CountOrphaned(orphaned);
  JudgeOrphans();
}

void Restoration::RestoreLate(std::vector<OwnedFd> connections) {
  if (connections.empty()) return;
  ReadRegistry();
  Restore(std::move(connections));
  registered_ = {};
}

void Restoration::OrphanUnwatched(absl::Span<const RegistrationRef> nodes) {
  uint32_t orphaned = 0;
  for (const RegistrationRef node : nodes) {
    if (!registry_.ReadSlot(node.slot, found_) || found_.id != node.id ||
        found_.state != RegistrationState::kLive) {
      continue;
    }
    orphaned += MakeOrphan({.node = node,
                            .is_orphaned = false,
                            .has_user = true,
                            .has_distribution_socket = found_.listener_cookie != 0})
                    ? 1
                    : 0;
  }
  CountOrphaned(orphaned);
}

void Restoration::ReadRegistry() {
  registered_.clear();
  registry_.ForEach(Which::kRegistered, [&](const Registration& node) {
    registered_[node.connection_cookie] = {
        .node = {node.slot, node.id},
        .is_orphaned = node.state == RegistrationState::kOrphaned,
        .has_user = node.owner_uid != kUnknownUid,
        .has_distribution_socket = node.listener_cookie != 0};
  });
}

bool Restoration::RestoreOne(OwnedFd connection) {
  const uint64_t cookie = PatientSocketCookie(connection.get());
  const auto found = cookie == 0 ? registered_.end() : registered_.find(cookie);
  if (found == registered_.end() || HasEnded(found->second.node)) {
    // All who hold the connection let it go when it is shut down.
    shutdown(connection.get(), SHUT_RDWR);
    return false;
  }
  const auto& [node, is_orphaned, has_user, has_distribution_socket] = found->second;
  if (custody_.DescriptorOf(node.slot) >= 0) return false;  // stored twice
  if (is_orphaned && !registry_.Adopt(node.slot, node.id, cookie)) return false;
  if (!custody_.HoldStored(node.slot, connection.get())) return false;
  // A worker that has ended the registration meanwhile, at somebody's request, has not seen the
  // connection; one that ends it from here on does.
  if (HasEnded(node)) {
    custody_.GiveUp(node.slot, connection.get());
    shutdown(connection.get(), SHUT_RDWR);
    return true;
  }
  if (!has_user) inquiry_.AskForUser(node);
  give_(std::move(connection), node);
  return true;
}

bool Restoration::HasEnded(RegistrationRef node) {
  return !registry_.ReadSlot(node.slot, found_) || found_.id != node.id ||
         found_.state == RegistrationState::kRemembered;
}

bool Restoration::MakeOrphan(const Known& known) {
  if (custody_.DescriptorOf(known.node.slot) >= 0) return false;
  if (!known.is_orphaned && !registry_.Orphan(known.node.slot, known.node.id)) return false;
  orphans_.Add(known.node.slot, known.node.id);
  judge_.PlanUnlessPlanned(next_judgement_ms_);
  // The earlier mapper was ended before it had found the socket. A node of OTP 23 does not register
  // again, and lives all the same: its socket is the only thing that shows it.
  if (!known.has_distribution_socket) inquiry_.SearchDistributionSocket(known.node);
  return !known.is_orphaned;
}

void Restoration::CountOrphaned(uint32_t count) {
  if (count == 0) return;
  registry_.statistics(0).orphaned.fetch_add(count, std::memory_order_relaxed);
  Log(Severity::kNotice,
      "%d nodes have lost their connection with an earlier mapper; they are found as long as they "
      "live",
      count);
}

void Restoration::JudgeOrphans() {
  orphans_.Judge();
  next_judgement_ms_ = MonotonicCoarseMs() + kJudgeIntervalMs;
  if (orphans_.count() > 0) {
    judge_.Plan(next_judgement_ms_);
  } else {
    judge_.Cancel();
  }
}

}  // namespace evermap
