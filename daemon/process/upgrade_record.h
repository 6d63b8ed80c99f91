// How the last upgrade went, as it stands in the registry for epmdctl and the exporter: each write
// of it. A record begins as running, and the mapper that serves afterwards writes the outcome,
// whichever of the two that is.
//
//   predecessor  RecordUpgradeBegun                                  running
//   predecessor  RecordUpgradeFailed                                 failed: it serves on
//   successor    RecordUpgradeSucceeded                              succeeded: it serves
//   any mapper   RecordUpgradeInterrupted, when it begins to serve   failed: neither of both serves
//
// Thread safety: belongs to the main thread of the mapper that the registry belongs to.
#ifndef EVERMAP_DAEMON_PROCESS_UPGRADE_RECORD_H_
#define EVERMAP_DAEMON_PROCESS_UPGRADE_RECORD_H_

#include <string_view>

#include "registry/registry.h"

namespace evermap {

// An upgrade has begun; it gets the next number.
void RecordUpgradeBegun(Registry& registry);
// It failed for `reason`, one line, and this mapper serves on.
void RecordUpgradeFailed(Registry& registry, std::string_view reason);
// This mapper has taken over. Logs it as well.
void RecordUpgradeSucceeded(Registry& registry);
// This mapper was not started by an upgrade. If the record says that one runs, a mapper died in the
// middle of it and cannot say so, while epmdctl may wait for the outcome.
void RecordUpgradeInterrupted(Registry& registry);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_UPGRADE_RECORD_H_
