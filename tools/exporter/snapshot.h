// What the exporter shows: the registry at one moment, read from shared memory alone.
//
//   const Snapshot snapshot = Snapshot::Take("/run/evermap/registry.4369");
//   if (!snapshot.readable()) return Unavailable(snapshot.problem());
//   for (const Snapshot::Node& node : snapshot.nodes()) ...
//
// Each node is consistent by itself, and so is each counter. All together are not, because the
// mapper goes on while they are read.
#ifndef EVERMAP_TOOLS_EXPORTER_SNAPSHOT_H_
#define EVERMAP_TOOLS_EXPORTER_SNAPSHOT_H_

#include <cassert>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "registry/counter_totals.h"
#include "registry/reader.h"
#include "registry/registration.h"
#include "tools/expected.h"

namespace evermap::exporter {

class Snapshot {
 public:
  struct Node {
    // Printable() of the registered name: neither Prometheus nor JSON takes what is not UTF-8, and
    // metrics are looked at in terminals.
    std::string name;
    uint64_t id = 0;
    uint16_t port = 0;
    uint32_t creation = 0;
    bool orphaned = false;
    bool hidden = false;
    int64_t since_unix_ns = 0;
    uint32_t owner_uid = ~0u;  // ~0 when not known
  };

  // Opens the file anew each time, because it may not be there yet, and because a mapper with
  // another layout puts a new file in its place. That costs a few system calls and no copy.
  static Snapshot Take(const std::string& registry_path);

  bool readable() const { return reader_ != nullptr; }
  // One line that says why the registry is not readable, and what to do.
  const std::string& problem() const { return problem_; }
  const std::string& registry_path() const { return registry_path_; }

  // The nodes that a lookup finds, sorted by name, each name once.
  const std::vector<Node>& nodes() const { return nodes_; }
  uint32_t live_count() const { return static_cast<uint32_t>(nodes_.size()) - orphaned_count_; }
  uint32_t orphaned_count() const { return orphaned_count_; }
  uint32_t remembered_count() const { return remembered_count_; }

  // Those that the mapper was told to expect, if it runs.
  const std::vector<ExpectedNode>& expected() const { return expected_; }

  // All zero when there is no registry to read.
  const CounterTotals& totals() const { return totals_; }
  // REQUIRES: readable().
  const RegistryView& view() const {
    assert(readable());
    return reader_->view();
  }

 private:
  std::string registry_path_;
  std::string problem_;
  std::unique_ptr<Reader> reader_;
  CounterTotals totals_;
  std::vector<Node> nodes_;
  std::vector<ExpectedNode> expected_;
  uint32_t orphaned_count_ = 0;
  uint32_t remembered_count_ = 0;
};

const char* StateText(const Snapshot::Node& node);  // live, orphaned
const char* TypeText(const Snapshot::Node& node);   // normal, hidden
std::string UidText(const Snapshot::Node& node);    // a number, or nothing when it is not known

}  // namespace evermap::exporter

#endif  // EVERMAP_TOOLS_EXPORTER_SNAPSHOT_H_
