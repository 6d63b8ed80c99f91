// Settling what dead writers left half done (INV-3), and what a reboot left behind.
//
// A half-done operation is a record with a claimant (layout.h) that is dead. A writer that settles it
// first makes itself the claimant, in one step that only one can win, and then brings the record
// forward or back to a state without a claimant. If it dies meanwhile, another one does the same
// again.
//
// Thread safety: each function says who else may write. Invariants: INV-3, L-7 to L-9, L-11.
#ifndef EVERMAP_REGISTRY_RECOVERY_H_
#define EVERMAP_REGISTRY_RECOVERY_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "registry/layout.h"
#include "registry/segment.h"
#include "registry/writer_place.h"

namespace evermap {

// Room for a name in whole words.
using NameBuffer = std::array<char, kRegistryNameSizeMax + 8>;

// Copies a record's name to `buffer`; nothing if it has none or the name does not match its hash.
// REQUIRES: nobody writes to the record, and segment.HasRecord(index).
std::optional<std::string_view> IntactName(const Segment& segment, uint32_t index,
                                           NameBuffer& buffer);

// Links a record at the head of its chain; false when another record has its name, which then gets
// the higher creation of both (INV-5). REQUIRES: nobody else writes to the segment; `name` is that of
// the record.
bool LinkUnlessKnown(Segment& segment, uint32_t index, std::string_view name);

// No new name gets a creation up to `creation` from now on (L-9).
void RaiseCreationFloor(Segment& segment, uint32_t creation);

// Tells all that make something of the registrations (generation()) to make it anew.
void AnnounceChange(Segment& segment);

// Ends an amendment (L-11) of record `index`, which the caller claimed in state `claimed`: moves it on
// to `target`, or, when it was orphaned or unregistered meanwhile, to that. Returns what it became;
// kFree when the segment is damaged and nothing was done.
// REQUIRES: `claimed` is amending or adopting.
layout::Kind EndAmendment(Segment& segment, uint32_t index, uint64_t claimed, layout::Kind target);

// Settles record `index`, seen in state `seen`, if its claimant is dead. False when the claimant
// lives. True otherwise: the record may have any state now. REQUIRES: `seen` has a claimant.
bool SettleIfDead(Segment& segment, const WriterPlace& place, uint32_t index, uint64_t seen);

// Settles all records of dead writers, including those of the writer that had `place` before.
// REQUIRES: the opening lock is held, and the writer in `place` has not claimed anything yet.
void SettleAll(Segment& segment, const WriterPlace& place);

// Turns what was live before a reboot into remembered names, and links all names anew: the file may
// lie on a disk that kept only a part of the last changes. If it is cut short, the next process that
// opens the registry does it again from the start.
// REQUIRES: the opening lock is held, and no other writer lives.
void RestartAfterReboot(Segment& segment, const BootId& boot);

// From now on the live registrations are of this boot. Where it is cut short, the file says of none.
void WriteBootId(const BootId& boot, Segment& segment);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_RECOVERY_H_
