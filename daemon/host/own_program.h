// The program that this process runs: how to execute it again, and the name of its file.
//
// Thread safety: OwnProgram() reads the environment, so no other thread may change that meanwhile.
#ifndef EVERMAP_DAEMON_HOST_OWN_PROGRAM_H_
#define EVERMAP_DAEMON_HOST_OWN_PROGRAM_H_

#include <sys/types.h>

#include <string>

namespace evermap {

// Executes the very file that this process was started from, also when another file has its name by
// now, as after the upgrade of a package.
inline constexpr char kOwnProgramLink[] = "/proc/self/exe";

// The absolute path of the program, for a process that is executed through /proc/PID/exe: the
// kernel knows such a process only by the file, not by the name that an upgrade is to look up
// again.
inline constexpr char kBinaryVariable[] = "EVERMAP_BINARY";

// The path of the file that this process was started from, as it was named then: kBinaryVariable,
// if that is an absolute path, or else what /proc says, or without /proc what execve(2) was given.
// Empty when that does not lead to a file. The first call is to be made before this process changes
// its directory.
std::string OwnProgram();

// The program that process `pid` runs, as a path to execute: if that cannot be told, since the process
// has ended, the file `named`. Empty when it is this process's own, or cannot be executed.
std::string OtherProgramOf(pid_t pid, const std::string& named);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_OWN_PROGRAM_H_
