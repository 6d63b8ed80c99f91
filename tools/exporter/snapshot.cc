#include "tools/exporter/snapshot.h"

#include <algorithm>
#include <cstddef>
#include <tuple>

namespace evermap::exporter {
namespace {

constexpr uint8_t kNodeTypeHidden = 72;
constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Bytes of the valid sequence at the beginning of `bytes`, 0 when there is none (RFC 3629: no
// overlong forms, no surrogates, nothing above U+10FFFF).
size_t SequenceSize(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || bytes.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return size;
}

}  // namespace

std::string ValidUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t size = SequenceSize(bytes);
    text += size > 0 ? bytes.substr(0, size) : kReplacement;
    bytes.remove_prefix(std::max<size_t>(size, 1));
  }
  return text;
}

const char* StateText(const Snapshot::Node& node) { return node.orphaned ? "orphaned" : "live"; }
const char* TypeText(const Snapshot::Node& node) { return node.hidden ? "hidden" : "normal"; }

std::string UidText(const Snapshot::Node& node) {
  return node.owner_uid == ~0u ? std::string() : std::to_string(node.owner_uid);
}

Snapshot Snapshot::Take(const std::string& registry_path) {
  Snapshot snapshot;
  snapshot.registry_path_ = registry_path;
  snapshot.reader_ = Reader::Open(registry_path, snapshot.problem_);
  if (snapshot.reader_ == nullptr) return snapshot;

  const RegistryView& view = snapshot.reader_->view();
  snapshot.totals_ = ReadCounterTotals(view);
  const uint32_t slots = view.slots_used();
  Registration found;
  for (uint32_t slot = 0; slot < slots; ++slot) {
    if (!view.ReadSlot(slot, found)) continue;
    if (found.state == RegistrationState::kRemembered) {
      ++snapshot.remembered_count_;
      continue;
    }
    snapshot.nodes_.push_back({
        .name = ValidUtf8(found.name()),
        .id = found.id,
        .port = found.port,
        .creation = found.creation,
        .orphaned = found.state == RegistrationState::kOrphaned,
        .hidden = found.node_type == kNodeTypeHidden,
        .since_unix_ns = found.since_unix_ns,
        .owner_uid = found.owner_uid,
    });
  }
  // A node that left and came back while the slots were read may have been met twice; ids grow, so
  // the later registration is the one to keep.
  std::sort(snapshot.nodes_.begin(), snapshot.nodes_.end(), [](const Node& a, const Node& b) {
    return std::tie(a.name, b.id) < std::tie(b.name, a.id);
  });
  const auto twice = [](const Node& a, const Node& b) { return a.name == b.name; };
  snapshot.nodes_.erase(std::unique(snapshot.nodes_.begin(), snapshot.nodes_.end(), twice),
                        snapshot.nodes_.end());
  snapshot.orphaned_count_ =
      static_cast<uint32_t>(std::count_if(snapshot.nodes_.begin(), snapshot.nodes_.end(),
                                          [](const Node& node) { return node.orphaned; }));
  return snapshot;
}

}  // namespace evermap::exporter
