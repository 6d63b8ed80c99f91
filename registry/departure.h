// When registrations were orphaned or ended (L-7), in steady time: nanoseconds that go on evenly
// while the system runs, whatever is done to its clock. What is decided by a departure (who is
// recycled first, how long an orphan has waited) is decided in steady time; what is shown is the time
// of day.
//
// Steady time begins, with each boot, as what the clock says then (Header::steady_offset). By how much
// the clock has been moved since is noted with each departure (Header::shown_offset).
//
// Thread safety: each function says who else may write. Invariants: L-7 in layout.h.
#ifndef EVERMAP_REGISTRY_DEPARTURE_H_
#define EVERMAP_REGISTRY_DEPARTURE_H_

#include <cstdint>

#include "registry/segment.h"

namespace evermap {

// Steady time now in ns. REQUIRES: segment.is_newest().
uint64_t SteadyNs(const Segment& segment);

// A departure later than all before: steady time, or one more than the last. Any number of writers may
// take one at once.
uint64_t NextDeparture(Segment& segment);

// Stores a departure into a record whose state word is `state`, so that the caller can then move it
// on to orphaned or remembered (L-7). False when it is not in that state any more. Any number of
// writers may write.
bool StoreDeparture(Segment& segment, uint32_t index, uint64_t state);

// Begins steady time anew, as the time of day. Departures that lie ahead of it, as they are of a boot
// whose clock was ahead, or of a former layout, are brought down to it in their order.
// REQUIRES: nobody else writes to the segment.
void RestartSteadyTime(Segment& segment);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_DEPARTURE_H_
