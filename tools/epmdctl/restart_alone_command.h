// epmdctl restart-alone: has systemd start epmd.service again whose mapper a signal has ended, and
// leaves alone what requires the unit, such as ejabberd. It is for ExecStopPost= of the unit.
//
// systemd's own restart (Restart=) would restart those, too, and wait until they have stopped. A job
// that ignores dependencies does not. But it has to come when systemd waits for RestartSec=: one
// that comes before would wait for that, too. By then all processes of the unit have to be gone; so
// a process of this command leaves the unit's control group, and asks for the job from there.
#ifndef EVERMAP_TOOLS_EPMDCTL_RESTART_ALONE_COMMAND_H_
#define EVERMAP_TOOLS_EPMDCTL_RESTART_ALONE_COMMAND_H_

#include <string>

namespace evermap {

// Does nothing when the mapper has ended by itself ($EXIT_CODE, systemd.exec(5)), and when `unit` is
// being started, stopped or restarted anyway. Returns, while the unit still ends, the exit code. What
// goes wrong is a line on standard error; then systemd's own restart comes after RestartSec=.
int RestartAlone(const std::string& unit);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_RESTART_ALONE_COMMAND_H_
