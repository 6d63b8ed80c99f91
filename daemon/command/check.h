// epmd -check: says what is wrong with the settings, without serving or asking anybody.
//
// Thread safety: a function without state.
#ifndef EVERMAP_DAEMON_COMMAND_CHECK_H_
#define EVERMAP_DAEMON_COMMAND_CHECK_H_

#include "daemon/command/options.h"

namespace evermap {

// Prints a line for each mistake, and one at the end that says how many there are. Returns the exit
// code: 0 when a mapper would start with these settings, 1 when not.
int CheckSettings(const Options& options);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_CHECK_H_
