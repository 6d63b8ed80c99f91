// Settling what dead writers left half done (INV-3), and what a reboot left behind.
//
// A half-done operation is a record in an owned state (layout.h) whose owner is dead. Whoever
// settles it first makes itself the owner, in one step that only one can win, and then brings the
// record forward or back to a state without an owner. Should it die meanwhile, the same can be
// done again.
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

// Copies a record's name to `buffer`; nothing if it has none or it does not match its hash.
// REQUIRES: nobody writes to the record.
std::optional<std::string_view> IntactName(const Segment& segment, uint32_t index,
                                           NameBuffer& buffer);

// Links a record; false when another one has its name, which then has the higher creation of both.
// REQUIRES: nobody else writes to the segment.
bool LinkUnlessKnown(Segment& segment, uint32_t index, std::string_view name);

// A departure later than all before: the time in ns, or one more than the last.
uint64_t NextDeparture(Segment& segment);

// Stores a departure into a record whose state word is `state`, so that the caller can then move it
// on to a departed state (L-7). False when it is not in that state any more.
bool StoreDeparture(Segment& segment, uint32_t index, uint64_t state);

// No new name gets a creation up to `creation` from now on (L-9).
void RaiseCreationFloor(Segment& segment, uint32_t creation);

// Makes all that look at generation() look again.
void AnnounceChange(Segment& segment);

// Ends an amendment (L-11) of record `index`, which the caller took up or over in state `owned`:
// moves it on to `target`, or, when it was orphaned or unregistered meanwhile, to that. Returns
// what it became; kFree when the segment is damaged and nothing was done.
layout::Kind EndAmendment(Segment& segment, uint32_t index, uint64_t owned, layout::Kind target);

// Settles record `index`, seen in owned state `seen`, if its owner is dead. False when the owner
// lives. True otherwise: the record may have any state now.
bool SettleIfDead(Segment& segment, const WriterSlot& writer, uint32_t index, uint64_t seen);

// Settles all records of dead writers, including those of who had the writer's own place before.
// REQUIRES: the opening lock is held, and `writer` has not claimed anything yet.
void SettleAll(Segment& segment, const WriterSlot& writer);

// Turns what was live before a reboot into remembered names, and links all names anew: the file may
// lie on a disk that kept only a part of the last changes. Done again from the start if it is
// cut short.
// REQUIRES: the opening lock is held, and no other writer lives.
void RestartAfterReboot(Segment& segment, const BootId& boot);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_RECOVERY_H_
