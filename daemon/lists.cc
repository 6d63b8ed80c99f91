#include "daemon/lists.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "daemon/protocol.h"
#include "registry/registration.h"

namespace evermap {
namespace {

// Nodes to be put in order. Their names are kept apart from what is moved when they are sorted.
class NodeList {
 public:
  struct Node {
    uint64_t order;  // larger: later
    size_t name_at;
    uint32_t slot;
    uint16_t name_size;
    uint16_t port;
  };

  void Add(const Registration& registration, uint64_t order) {
    nodes_.push_back(
        {order, names_.size(), registration.slot, registration.name_size, registration.port});
    names_.append(registration.name());
  }

  void SortNewestFirst() {
    std::sort(nodes_.begin(), nodes_.end(),
              [](const Node& a, const Node& b) { return a.order > b.order; });
  }

  const std::vector<Node>& nodes() const { return nodes_; }
  std::string_view NameOf(const Node& node) const {
    return std::string_view(names_).substr(node.name_at, node.name_size);
  }

 private:
  std::vector<Node> nodes_;
  std::string names_;
};

std::string StartWithPort(uint16_t mapper_port) {
  std::string text(protocol::kPortHeaderSize, '\0');
  protocol::EncodePortHeader(
      mapper_port, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), text.size()));
  return text;
}

}  // namespace

std::string MakeNamesText(const Registry& registry, uint16_t port) {
  NodeList list;
  registry.ForEach([&list](const Registration& node) {
    if (node.state != RegistrationState::kRemembered) list.Add(node, node.id);
  });
  list.SortNewestFirst();
  std::string text = StartWithPort(port);
  for (const NodeList::Node& node : list.nodes()) {
    protocol::AppendNamesLine(list.NameOf(node), node.port, text);
  }
  return text;
}

std::string MakeDumpText(const Registry& registry, const Custody& custody, uint16_t port) {
  NodeList active;
  NodeList orphaned;
  NodeList old;
  registry.ForEach([&](const Registration& node) {
    switch (node.state) {
      case RegistrationState::kLive:
        active.Add(node, node.id);
        return;
      case RegistrationState::kOrphaned:
        orphaned.Add(node, node.id);
        return;
      case RegistrationState::kRemembered:
        old.Add(node, node.departure);
        return;
    }
  });
  for (NodeList* list : {&active, &orphaned, &old}) list->SortNewestFirst();
  std::string text = StartWithPort(port);
  for (const NodeList::Node& node : active.nodes()) {
    protocol::AppendDumpLineActive(active.NameOf(node), node.port, custody.DescriptorOf(node.slot),
                                   text);
  }
  for (const NodeList::Node& node : orphaned.nodes()) {
    protocol::AppendDumpLineOrphaned(orphaned.NameOf(node), node.port, text);
  }
  // Newest of those that are here first, but oldest of those that have left: as the stock epmd.
  for (size_t i = std::min(old.nodes().size(), kDumpOldMax); i-- > 0;) {
    const NodeList::Node& node = old.nodes()[i];
    protocol::AppendDumpLineOld(old.NameOf(node), node.port, -1, text);
  }
  return text;
}

}  // namespace evermap
