#include "daemon/serve/verbs.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "daemon/host/address.h"
#include "daemon/host/log.h"
#include "daemon/serve/counting.h"
#include "registry/base/clock.h"
#include "registry/reader.h"

namespace evermap {
namespace {

static_assert(protocol::kAlive2ReplySizeMax <= protocol::kPort2ReplySizeMax);

absl::Span<const std::byte> Bytes(std::string_view text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

}  // namespace

Reply Verbs::Answer(const Requester& requester, const protocol::Request& request) {
  if (!MayAsk(requester, request)) return AnswerNotAllowed(requester, request);
  return std::visit([&](const auto& decoded) { return Decide(requester, decoded); }, request);
}

Reply Verbs::AnswerMalformed(const Requester& requester) {
  Count(statistics_.closed_malformed);
  const std::string who = AddressText(PeerAddress(requester.fd));
  LogLimited(shared_.log_malformed, who, Severity::kWarning,
             "a connection from %s is closed: what it sent is no request", who);
  return {};
}

bool Verbs::MayAsk(const Requester& requester, const protocol::Request& request) {
  if (const auto* const node = std::get_if<protocol::Alive2Request>(&request); node != nullptr) {
    return access_.MayRegister(node->node.name, requester.fd);
  }
  return access_.Has(RowOf(VerbOf(request)).right, requester.fd);
}

Reply Verbs::AnswerNotAllowed(const Requester& requester, const protocol::Request& request) {
  const VerbRow& row = RowOf(VerbOf(request));
  Count(statistics_.*row.refused);
  access_.LogRefusal(row.right, requester.fd);
  const auto* const node = std::get_if<protocol::Alive2Request>(&request);
  if (node != nullptr && IsLocalPeer(requester.fd)) return RefusalReply(node->node);
  Log(Severity::kRequests, "fd %d: closed without a reply", requester.fd);
  return {};
}

Reply Verbs::Decide(const Requester& requester, const protocol::Alive2Request& request) {
  const protocol::NodeDescription& node = request.node;
  // The read side of the connection is shut down, so a registration would end immediately: none is
  // made.
  if (requester.is_draining) return {};
  if (node.name.empty()) return AnswerMalformed(requester);
  if (!request.acceptable) {
    LogLimited(shared_.disputes.limiter(), node.name, Severity::kWarning,
               "node %s is refused: a name has at most %d characters, and no control characters; "
               "asked for from %s",
               Escaped(node.name), protocol::kNameCodePointsMax,
               AddressText(PeerAddress(requester.fd)));
    return Refuse(node);
  }
  const Decision decision = registrar_.Register({.name = node.name,
                                                 .extra = node.extra,
                                                 .port = node.port,
                                                 .node_type = node.node_type,
                                                 .protocol = node.protocol,
                                                 .highest_version = node.highest_version,
                                                 .lowest_version = node.lowest_version},
                                                requester.fd);
  if (decision.outcome == Decision::Outcome::kLater) {
    return {.then = Reply::Then::kAskLater,
            .registration = decision.registration,
            .dispute = requester.dispute};
  }
  if (decision.outcome == Decision::Outcome::kTaken) {
    if (const std::optional<Reply> later = PutOff(requester, decision, node)) return *later;
  }
  if (decision.outcome != Decision::Outcome::kRegistered) {
    RecordRefusal(requester, decision, node.name);
    return Refuse(node);
  }
  Count(statistics_.alive2_registered);
  if (IsLogged(Severity::kRegistrations)) {
    Log(Severity::kRegistrations, "registered %s at port %d, creation %u, fd %d",
        Escaped(node.name), node.port, decision.creation, requester.fd);
  }
  const size_t size =
      protocol::EncodeAlive2Reply(node.highest_version, decision.creation, absl::MakeSpan(reply_));
  return {.then = Reply::Then::kKeepNode,
          .bytes = absl::MakeConstSpan(reply_.data(), size),
          .registration = decision.registration};
}

std::optional<Reply> Verbs::PutOff(const Requester& requester, const Decision& decision,
                                   const protocol::NodeDescription& node) {
  // Where nobody can be named, another writer is in the middle of something.
  if (requester.is_last_time || decision.registration.id == 0) return std::nullopt;
  Reply later = {.then = Reply::Then::kAskLater,
                 .registration = decision.registration,
                 .wait = Wait::kLook,
                 .dispute = requester.dispute};
  if (!later.dispute.was_asked) {
    later.dispute.was_asked = true;
    later.dispute.place = shared_.disputes.Ask({.fd = requester.fd,
                                                .port = node.port,
                                                .name = node.name,
                                                .holder = decision.registration,
                                                .wake_worker = &wake_worker_});
    if (later.dispute.place != Dispute::kNoPlace) return later;
  }
  const int64_t wait_ms = absl::ToInt64Milliseconds(shared_.options.name_wait);
  if (wait_ms == 0) return std::nullopt;
  const int64_t now_ms = MonotonicCoarseMs();
  if (!later.dispute.is_waiter) {
    if (!shared_.disputes.Enter(later.dispute)) return std::nullopt;
    later.dispute.wait_end_ms = now_ms + wait_ms;
  }
  if (now_ms >= later.dispute.wait_end_ms) return std::nullopt;
  later.wait = Wait::kHolder;
  return later;
}

void Verbs::RecordTaken(const Requester& requester, std::string_view name) {
  Disputes& disputes = shared_.disputes;
  const int place = requester.dispute.place;
  const std::string* text = nullptr;
  if (place != Dispute::kNoPlace && disputes.HasLooked(place)) text = &disputes.TextOf(place);
  LogLimited(disputes.limiter(), name, Severity::kWarning, [&] {
    return absl::StrCat(
        "node ", Escaped(name), " is refused: ",
        text != nullptr && !text->empty()
            ? *text
            : absl::StrCat("another node has its name (epmdctl list); asked for from ",
                           AddressText(PeerAddress(requester.fd))));
  });
}

void Verbs::RecordRefusal(const Requester& requester, const Decision& decision,
                          std::string_view name) {
  switch (decision.outcome) {
    case Decision::Outcome::kReserved:
      LogLimited(shared_.disputes.limiter(), name, Severity::kWarning,
                 "node %s is refused: its name is reserved for %s, and %s asked for it",
                 Escaped(name), Escaped(decision.reserved_for->Text()),
                 decision.asking_uid == kUnknownUid
                     ? "somebody who cannot be told (another network or user namespace, or gone "
                       "already)"
                     : absl::StrCat("user ", decision.asking_uid));
      return;
    case Decision::Outcome::kNoDescriptors:
      Count(statistics_.refused_descriptors);
      LogLimited(
          shared_.log_descriptors, Severity::kError,
          "node %s is refused: %d nodes are as many as the limit of %d file descriptors allows; "
          "raise it (ulimit -n, LimitNOFILE=)",
          Escaped(name), shared_.custody.connections_max(), shared_.descriptors_max);
      return;
    case Decision::Outcome::kRegistryFull:
      Count(statistics_.refused_registry_full);
      LogLimited(
          shared_.log_registry_full, Severity::kError,
          "node %s is refused: registry %s has no room (%d names); remove it while no mapper "
          "runs and start with a larger -capacity, or make room on its file system",
          Escaped(name), shared_.registry.path(), shared_.registry.view().capacity());
      return;
    case Decision::Outcome::kTaken:
      RecordTaken(requester, name);
      return;
    case Decision::Outcome::kInvalid:
    case Decision::Outcome::kRegistered:
    case Decision::Outcome::kLater:
      return;
  }
}

Reply Verbs::Refuse(const protocol::NodeDescription& node) {
  Count(statistics_.alive2_refused);
  return RefusalReply(node);
}

Reply Verbs::RefusalReply(const protocol::NodeDescription& node) {
  if (IsLogged(Severity::kRegistrations)) {
    Log(Severity::kRegistrations, "refused %s at port %d", Escaped(node.name), node.port);
  }
  const size_t size = protocol::EncodeAlive2Refusal(node.highest_version, absl::MakeSpan(reply_));
  return {.bytes = absl::MakeConstSpan(reply_.data(), size)};
}

Reply Verbs::Decide(const Requester&, const protocol::Port2Request& request) {
  Registration found;
  const bool is_found = shared_.registry.Lookup(request.name, found);
  Count(is_found ? statistics_.port2_found : statistics_.port2_unknown);
  if (IsLogged(Severity::kRequests)) {
    Log(Severity::kRequests, "PORT2 %s: %s", Escaped(request.name),
        is_found ? absl::StrCat("port ", found.port) : "unknown");
  }
  const size_t size = is_found
                          ? protocol::EncodePort2Reply({.port = found.port,
                                                        .node_type = found.node_type,
                                                        .protocol = found.protocol,
                                                        .highest_version = found.highest_version,
                                                        .lowest_version = found.lowest_version,
                                                        .name = found.name(),
                                                        .extra = found.extra()},
                                                       absl::MakeSpan(reply_))
                          : protocol::EncodePort2Unknown(absl::MakeSpan(reply_));
  return {.bytes = absl::MakeConstSpan(reply_.data(), size)};
}

Reply Verbs::Decide(const Requester&, const protocol::NamesRequest&) {
  Count(statistics_.names);
  Log(Severity::kRequests, "NAMES");
  return {.then = Reply::Then::kListLater, .list = List::kNames};
}

Reply Verbs::Decide(const Requester&, const protocol::DumpRequest&) {
  Count(statistics_.dump);
  Log(Severity::kRequests, "DUMP");
  return {.then = Reply::Then::kListLater, .list = List::kDump};
}

Reply Verbs::Decide(const Requester& requester, const protocol::KillRequest&) {
  Count(statistics_.kill);
  if (!access_.MayEndMapper(shared_.registry)) registrar_.EndGoneOrphans();
  if (!access_.MayEndMapper(shared_.registry)) {
    const std::string who = AddressText(PeerAddress(requester.fd));
    LogLimited(shared_.log_refused, who, Severity::kWarning,
               "KILL from %s is refused: nodes are registered, and -relaxed_command_check was not "
               "given",
               who);
    return {.bytes = Bytes(protocol::kKillReplyRefused)};
  }
  return {.then = Reply::Then::kStopMapper,
          .bytes = Bytes(protocol::kKillReplyOk),
          .stop_reason = "asked to by a KILL request"};
}

Reply Verbs::Decide(const Requester&, const protocol::StopRequest& request) {
  Count(statistics_.stop);
  if (!registrar_.EndNamed(request.name)) return {.bytes = Bytes(protocol::kStopReplyUnknown)};
  Log(Severity::kRegistrations, "unregistered %s: asked to by a STOP request",
      Escaped(request.name));
  return {.bytes = Bytes(protocol::kStopReplyStopped)};
}

}  // namespace evermap
