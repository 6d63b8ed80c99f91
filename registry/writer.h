// The lock-free changes of registrations: register, unregister, orphan, adopt, amend.
//
// Thread safety: all members may be called from any number of threads, while other processes do the
// same. No lock is taken.
// Invariants: INV-2 to INV-5; L-1 to L-11, L-14, L-15 in layout.h.
#ifndef EVERMAP_REGISTRY_WRITER_H_
#define EVERMAP_REGISTRY_WRITER_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "registry/registration.h"
#include "registry/registry.h"
#include "registry/segment.h"
#include "registry/slab.h"
#include "registry/text_pool.h"
#include "registry/writer_place.h"

namespace evermap {

class Writer {
 public:
  // REQUIRES: both outlive the object, `segment` has the newest layout and is mapped for writing,
  // and `place` is taken.
  Writer(Segment& segment, const WriterPlace& place);

  // As the members of Registry (registry.h) of these names.
  RegisterResult Register(const NodeRecord& node);
  bool AwaitClaimant(uint32_t slot);
  bool Unregister(uint32_t slot, uint64_t id);
  bool Orphan(uint32_t slot, uint64_t id);
  bool Adopt(uint32_t slot, uint64_t id, uint64_t connection_cookie);
  bool Amend(uint32_t slot, uint64_t id, const Amendment& what);

 private:
  struct Found {
    enum class Kind : uint8_t { kAbsent, kRemembered, kTaken, kChanged, kBroken };
    Kind kind = Kind::kBroken;
    uint32_t index = 0;
    uint64_t state = 0;  // kRemembered
    uint64_t id = 0;     // kTaken
    uint64_t head = 0;   // kAbsent: the head of the chain when the search began
  };

  // Looks once for `name`.
  Found Find(uint64_t hash, std::string_view name);
  // Registers a name again in its remembered record, or says that there is no room for its extra; nothing
  // when the record has changed.
  std::optional<RegisterResult> Reuse(const Found& found, const NodeRecord& node);
  // Claims a record for a new name and fills it, but for its link; nothing when there is none.
  std::optional<RegisterResult> Prepare(uint64_t hash, const NodeRecord& node,
                                        std::optional<uint32_t>& fresh);
  // Writes all but state, hash, name and link. REQUIRES: the caller has claimed the record.
  RegisterResult Fill(uint32_t index, const NodeRecord& node, uint32_t creation);
  // Makes record `index` found by lookups. REQUIRES: the caller has claimed it, and it is linked.
  void MakeLive(uint32_t index);
  enum class Departure : uint8_t { kUnregistered, kOrphaned };
  // Ends or orphans registration `id`: moves its record on, or, when the record has a claimant, tells
  // that one to do so (L-11). False when it has ended or, to orphan it, when it is not live.
  bool Depart(uint32_t slot, uint64_t id, Departure departure);
  // Claims registration `id` to amend it (L-11), if it is orphaned or, unless `only_orphaned`, live;
  // the claimed state, or nothing.
  std::optional<uint64_t> ClaimForAmendment(uint32_t slot, uint64_t id, bool only_orphaned);
  uint32_t FirstCreation() const;

  Segment& segment_;
  const WriterPlace& place_;
  Slab slab_;
  TextPool pool_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_WRITER_H_
