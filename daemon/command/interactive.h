// The mapper's program as a command that asks a running mapper: -names, -started, -dump, -kill,
// -stop.
//
// What is written where, byte for byte, and the exit codes are those of the stock epmd 13.1,
// because scripts read them. Of whatever goes wrong only the fact that nothing can be reached is
// said on standard error; the rest is on standard output. epmdctl is the command that explains.
#ifndef EVERMAP_DAEMON_COMMAND_INTERACTIVE_H_
#define EVERMAP_DAEMON_COMMAND_INTERACTIVE_H_

#include "daemon/command/options.h"

namespace evermap {

// Does options.command to the mapper on options.port of this host and returns the exit code.
// REQUIRES: the command is one of kNames, kStarted, kDump, kKill, kStop.
int RunInteractive(const Options& options);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_INTERACTIVE_H_
