// The mapper's program as a command that asks a running mapper: -names, -started, -dump, -kill,
// -stop.
//
// What is written where, byte for byte, and the exit codes are those of the stock epmd 13.1,
// because scripts read them. Therefore only "cannot connect" goes to standard error; all other
// complaints go to standard output. epmdctl is the command that explains.
#ifndef EVERMAP_DAEMON_COMMAND_INTERACTIVE_H_
#define EVERMAP_DAEMON_COMMAND_INTERACTIVE_H_

#include "daemon/command/options.h"

namespace evermap {

// Asks the mapper on options.port of this host to do options.command, prints what it answers and
// returns the exit code.
// REQUIRES: the command is one of kNames, kStarted, kDump, kKill, kStop.
int RunInteractive(const Options& options);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_INTERACTIVE_H_
