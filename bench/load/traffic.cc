#include "bench/load/traffic.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "daemon/wire/protocol.h"

namespace evermap::bench {
namespace {

std::string_view Text(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Names that no node has are asked for in turn; this is the number of different ones.
constexpr uint64_t kUnknownNamesAsked = 1000;
constexpr uint16_t kComingAndGoingPort = 10'000;

// Whether a reply describes a node as NodeSet registers it.
bool IsAsRegistered(const protocol::NodeDescription& found, const NodeSet::Node& node) {
  const protocol::NodeDescription usual;
  return found.name == node.name && found.port == node.port && found.node_type == usual.node_type &&
         found.protocol == usual.protocol && found.highest_version == usual.highest_version &&
         found.lowest_version == usual.lowest_version && found.extra.empty();
}

}  // namespace

Traffic::Traffic(const NodeSet& nodes, const Mix& mix, Options options)
    : nodes_(nodes), shares_(mix.shares()), options_(std::move(options)) {
  assert(mix.known <= 0 || !nodes.nodes().empty());
  assert(std::any_of(shares_.begin(), shares_.end(), [](double share) { return share > 0; }));
  std::vector<std::byte> frame(protocol::kFrameSizeMax);
  for (const NodeSet::Node& node : nodes.nodes()) {
    const size_t size = protocol::EncodePort2Request(node.name, absl::MakeSpan(frame));
    lookups_.emplace_back(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(size));
    ports_.emplace(node.name, node.port);
  }
  const size_t size = protocol::EncodeNamesRequest(absl::MakeSpan(frame));
  names_.assign(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(size));
}

Asker::Asker(const Traffic& traffic, uint32_t thread, uint32_t slots)
    : traffic_(traffic),
      thread_(thread),
      random_(thread + 1),
      kind_(traffic.shares_.begin(), traffic.shares_.end()),
      slots_(slots) {}

void Asker::Choose(size_t number) {
  Slot& slot = slots_[number];
  slot.kind = static_cast<RequestKind>(kind_(random_));
  switch (slot.kind) {
    case RequestKind::kKnown:
      slot.node = random_() % traffic_.lookups_.size();
      slot.frame = traffic_.lookups_[slot.node];
      return;
    case RequestKind::kNames:
      slot.frame = traffic_.names_;
      return;
    case RequestKind::kUnknown: {
      const std::string name =
          absl::StrCat(traffic_.options_.prefix, "-nobody", unknown_asked_++ % kUnknownNamesAsked);
      slot.own.resize(protocol::kFrameSizeMax);
      slot.own.resize(protocol::EncodePort2Request(name, absl::MakeSpan(slot.own)));
      break;
    }
    case RequestKind::kRegister: {
      const std::string name = absl::StrCat(traffic_.options_.prefix, "-t", thread_, "s", number,
                                            "n", slot.turn++ % traffic_.options_.names_per_slot);
      slot.own.resize(protocol::kFrameSizeMax);
      slot.own.resize(protocol::EncodeAlive2Request({.port = kComingAndGoingPort, .name = name},
                                                    absl::MakeSpan(slot.own)));
      break;
    }
  }
  slot.frame = slot.own;
}

std::optional<Outcome> Asker::Judge(size_t number, absl::Span<const std::byte> reply, bool ended) {
  const Slot& slot = slots_[number];
  if (slot.kind == RequestKind::kRegister) return JudgeRegistration(reply, ended);
  if (!ended) return std::nullopt;
  if (reply.empty()) return Outcome::kEmpty;
  switch (slot.kind) {
    case RequestKind::kKnown:
      return JudgeKnown(slot.node, reply);
    case RequestKind::kUnknown:
      return JudgeUnknown(reply);
    case RequestKind::kNames:
    case RequestKind::kRegister:
      return JudgeNames(reply);
  }
  return Outcome::kMalformed;
}

Outcome Asker::JudgeKnown(size_t node, absl::Span<const std::byte> reply) const {
  const absl::StatusOr<protocol::Port2Reply> decoded = protocol::DecodePort2Reply(reply);
  if (!decoded.ok()) return Outcome::kMalformed;
  if (decoded->result != 0) return Outcome::kNotFound;
  return IsAsRegistered(decoded->node, traffic_.nodes_.nodes()[node]) ? Outcome::kCorrect
                                                                      : Outcome::kWrongNode;
}

Outcome Asker::JudgeUnknown(absl::Span<const std::byte> reply) const {
  const absl::StatusOr<protocol::Port2Reply> decoded = protocol::DecodePort2Reply(reply);
  if (!decoded.ok()) return Outcome::kMalformed;
  return decoded->result == 0 ? Outcome::kFound : Outcome::kCorrect;
}

// Nodes of others may be registered too, so only those of this load are looked for: all of them
// must be there, once and with their ports.
Outcome Asker::JudgeNames(absl::Span<const std::byte> reply) {
  if (Text(reply) == right_names_) return Outcome::kCorrect;
  const absl::StatusOr<protocol::NamesReply> decoded = protocol::DecodeNamesReply(reply);
  if (!decoded.ok()) return Outcome::kMalformed;
  const uint16_t mapper_port = traffic_.options_.mapper_port;
  if (mapper_port != 0 && decoded->mapper_port != mapper_port) return Outcome::kMalformed;
  size_t ours = 0;
  for (const protocol::NamesReply::Entry& entry : decoded->entries) {
    const auto node = traffic_.ports_.find(absl::string_view(entry.name.data(), entry.name.size()));
    if (node == traffic_.ports_.end()) continue;
    if (node->second != entry.port) return Outcome::kMissingNode;
    ++ours;
  }
  if (ours != traffic_.ports_.size()) return Outcome::kMissingNode;
  right_names_ = Text(reply);
  return Outcome::kCorrect;
}

std::optional<Outcome> Asker::JudgeRegistration(absl::Span<const std::byte> reply,
                                                bool ended) const {
  if (reply.empty()) return ended ? std::optional(Outcome::kEmpty) : std::nullopt;
  const std::optional<size_t> size = protocol::Alive2ReplySize(reply[0]);
  if (!size.has_value() || reply.size() > *size) return Outcome::kMalformed;
  if (reply.size() < *size) return ended ? std::optional(Outcome::kCut) : std::nullopt;
  const absl::StatusOr<protocol::Alive2Reply> decoded = protocol::DecodeAlive2Reply(reply);
  if (!decoded.ok()) return Outcome::kMalformed;
  return decoded->result == 0 ? Outcome::kCorrect : Outcome::kRefused;
}

}  // namespace evermap::bench
