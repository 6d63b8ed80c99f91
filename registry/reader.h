// Reading a registry without taking part in it: for other programs than the mapper, and for the
// mapper's own lookups.
//
//   std::string error;
//   std::unique_ptr<Reader> reader = Reader::Open("/run/evermap/registry.4369", error);
//   Registration found;
//   if (reader != nullptr && reader->view().Lookup("rabbit", found)) connect_to(found.port);
//
// Thread safety: all members may be called from any number of threads, while writers write.
// A reader that stays open over a restart or an upgrade of the mapper goes on to see what the
// mapper knows, as long as the file is not removed and superseded() is false. Registries of older
// layouts are read as they are.
#ifndef EVERMAP_REGISTRY_READER_H_
#define EVERMAP_REGISTRY_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "registry/registration.h"
#include "registry/status.h"

namespace evermap {

class Segment;            // segment.h
struct WorkerStatistics;  // counters.h

// Lookups in a mapped segment of any known layout (INV-1). Does not own it.
class RegistryView {
 public:
  // REQUIRES: `segment` outlives the view.
  explicit RegistryView(const Segment& segment) : segment_(segment) {}

  // As the members of Registry (registry.h) of these names.
  bool Lookup(std::string_view name, Registration& found) const;
  bool ReadSlot(uint32_t slot, Registration& found) const;
  // Changes with every change of the set of live and orphaned registrations, and of which of the two each
  // is, before the change is acknowledged. What was made by reading all slots is current while generation()
  // is what it was before that began.
  uint64_t generation() const;
  uint32_t capacity() const;
  // The greatest id of any registration so far: every later one has a greater id.
  uint64_t last_id() const;
  // Slots that were ever used: those below this, which are at most twice as many as were registered at
  // once, or a few thousand more (slab.h). To read all: ReadSlot() each.
  uint32_t slots_used() const;
  // Live and orphaned registrations now. Looks at these, and at a word for each 32 slots_used(); in a
  // former layout at all of them.
  uint32_t CountLive() const;
  // Those of these that are not orphaned. REQUIRES: the newest layout.
  uint32_t CountConnected() const;
  // The time now by which Registration::departure is counted.
  uint64_t SteadyNs() const;
  // Counters of a worker; only those that lie within the first statistics_size() bytes are its own,
  // as files in former layouts have fewer. REQUIRES: worker < kStatisticsWorkersMax.
  const WorkerStatistics& statistics(uint32_t worker) const;
  size_t statistics_size() const;
  // What the last mapper says of itself; whether it still runs: IsRunning().
  MapperStatus mapper_status() const;
  UpgradeStatus upgrade_status() const;
  // The port of the mapper whose registry it is; 0: not known, as of one of Evermap 0.1.0.
  uint16_t port() const;
  // Whether another file took this one's name, as the mapper was upgraded to another layout: open
  // the path anew.
  bool superseded() const;
  // Whether the mapper touches the file after each change (watch.h). Who is not told has to poll: the
  // mapper is of an earlier release, or could not do it.
  bool tells_changes() const;

 private:
  const Segment& segment_;
};

// A segment mapped read-only, and the view of it.
class Reader {
 public:
  // Null when there is no registry at `path` or it is not accepted (segment_file.h); `error` is then
  // one line that says why and what to do.
  static std::unique_ptr<Reader> Open(const std::string& path, std::string& error);
  ~Reader();

  const RegistryView& view() const { return view_; }
  // Whether `path` still leads to this file. Unlike view().superseded() it also tells when the file
  // was removed, and costs a system call.
  bool IsNamed(const std::string& path) const;

 private:
  explicit Reader(std::unique_ptr<Segment> segment);

  const std::unique_ptr<Segment> segment_;
  RegistryView view_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_READER_H_
