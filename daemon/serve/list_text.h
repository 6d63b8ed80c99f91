// The texts of the replies to NAMES and DUMP. Unlike all other replies they grow with the number of
// names, so they are made in steps, between which other requests are answered.
//
//   ListMaker maker(List::kNames, registry, custody, port);
//   while (!maker.Step()) { ... answer other requests ... }
//   send(maker.TakeText());
//
// Thread safety: a NameList and a ListMaker belong to one thread.
#ifndef EVERMAP_DAEMON_SERVE_LIST_TEXT_H_
#define EVERMAP_DAEMON_SERVE_LIST_TEXT_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/custody/custody.h"
#include "registry/registry.h"

namespace evermap {

// Names of past registrations that DUMP shows at most: the latest ones.
inline constexpr size_t kDumpOldMax = 1000;

// A list of names that comes in runs and goes out sorted, the latest first. The texts of the names
// are kept apart, so that sorting moves only small entries.
class NameList {
 public:
  struct Name {
    uint64_t order;  // larger: later
    size_t text_at;  // where its text begins in texts_
    int fd;          // -1: none
    uint16_t text_size;
    uint16_t port;
  };

  void Add(const Registration& registration, uint64_t order, int fd = -1);
  // Sorts what was added since the last call.
  void EndRun();
  // The latest of the names that are left; nullptr when none is. Valid until the next Add().
  // REQUIRES: EndRun() was called after the last Add().
  const Name* TakeLatest();
  std::string_view TextOf(const Name& name) const {
    return std::string_view(texts_).substr(name.text_at, name.text_size);
  }

 private:
  struct Run {
    size_t next;
    size_t end;
  };

  // The order of the heap of runs.
  auto Later() const {
    return
        [this](const Run& a, const Run& b) { return names_[a.next].order < names_[b.next].order; };
  }

  std::vector<Name> names_;
  std::string texts_;
  size_t runs_end_ = 0;    // names from here on are in no run yet
  std::vector<Run> runs_;  // each in order, the latest first; a heap, by the next of each
};

enum class List : uint8_t { kNames, kDump };

// Makes a whole reply of the mapper on `port`. Each name that is registered from before the first
// step until after the last one is in it exactly once, the newest first. DUMP shows the descriptors
// that are in custody. Registry and custody outlive the ListMaker.
class ListMaker {
 public:
  ListMaker(List list, const Registry& registry, const Custody& custody, uint16_t port);

  // Does one part of the work and returns whether it was the last, so that the text is complete. A
  // part takes some 20 us, the last part of a long text more.
  bool Step();
  // The generation of the registry at the start: the text is current while the registry has it.
  uint64_t generation() const { return generation_; }
  // REQUIRES: Step() has returned true.
  std::string TakeText() {
    assert(is_complete_);
    return std::move(text_);
  }

 private:
  void Add(const Registration& node);
  // Writes the next line; false when there are no more.
  bool AppendLine();

  const List list_;
  const Registry& registry_;
  const Custody& custody_;
  const uint64_t generation_;
  std::string text_;
  uint32_t next_slot_ = 0;
  bool has_all_ = false;      // the lists below have all names
  bool is_complete_ = false;  // text_ is
  NameList active_;           // with the orphans for NAMES, without them for DUMP
  NameList orphaned_;         // DUMP
  NameList old_;              // DUMP
  // The latest of old_, the latest first. DUMP shows them in the opposite order, as the stock epmd.
  std::vector<const NameList::Name*> latest_old_;
  size_t old_left_ = 0;  // so many of latest_old_ are still to be shown
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_LIST_TEXT_H_
