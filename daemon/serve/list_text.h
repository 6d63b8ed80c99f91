// The texts that NAMES and DUMP are answered with. They grow with the number of names, unlike all
// other replies, and so are made in steps, between which others are answered.
#ifndef EVERMAP_DAEMON_SERVE_LIST_TEXT_H_
#define EVERMAP_DAEMON_SERVE_LIST_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/custody/custody.h"
#include "registry/registry.h"

namespace evermap {

// Forgotten names that DUMP shows, the latest.
inline constexpr size_t kDumpOldMax = 1000;

// Names in order, of which some are added at a time. They are kept apart from what is moved when
// they are sorted.
class NameList {
 public:
  struct Name {
    uint64_t order;  // larger: later
    size_t text_at;
    int fd;  // -1: none
    uint16_t text_size;
    uint16_t port;
  };

  void Add(const Registration& registration, uint64_t order, int fd = -1);
  // Sorts what was added since the last time. REQUIRED before TakeLatest().
  void EndRun();
  // The latest of those that are left; nullptr: none is. Valid until the next Add().
  const Name* TakeLatest();
  std::string_view TextOf(const Name& name) const {
    return std::string_view(texts_).substr(name.text_at, name.text_size);
  }

 private:
  struct Run {
    size_t next;
    size_t end;
  };

  // An order for the heap.
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

// Makes the whole reply of a mapper at `port`: all that is registered from before the first step
// until after the last is in it once, the newest first; descriptors are those in custody. Registry
// and custody outlive it.
class ListMaker {
 public:
  ListMaker(List list, const Registry& registry, const Custody& custody, uint16_t port);

  // Does a part, some 20 us long, the last of a long text longer (it is copied once); true: it was
  // the last, and the text is there.
  bool Step();
  // Of the registry, when it began: the text is current as long as it is that.
  uint64_t generation() const { return generation_; }
  std::string TakeText() { return std::move(text_); }

 private:
  void Add(const Registration& node);
  // False when there are no more lines.
  bool AppendLine();

  const List list_;
  const Registry& registry_;
  const Custody& custody_;
  const uint64_t generation_;
  std::string text_;
  uint32_t next_slot_ = 0;
  bool has_all_ = false;
  NameList active_;    // for NAMES, orphans too
  NameList orphaned_;  // these and the next for DUMP alone
  NameList old_;
  // The latest of old_, which DUMP shows the other way round: as the stock epmd.
  std::vector<const NameList::Name*> latest_old_;
  size_t old_left_ = 0;  // of these to be shown
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_LIST_TEXT_H_
