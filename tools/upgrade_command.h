// `epmdctl upgrade`: has the mapper hand over to a new program, and says how that went.
#ifndef EVERMAP_TOOLS_UPGRADE_COMMAND_H_
#define EVERMAP_TOOLS_UPGRADE_COMMAND_H_

#include <string>

namespace evermap {

// Tells the mapper of the registry at `registry_path` to upgrade to `program`, or, when that is
// empty, to the file that it was started from, and waits for the outcome. Returns the exit code of
// the process, 0 only when the new program serves; what happened is printed on one line.
int UpgradeMapper(const std::string& registry_path, const std::string& program);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_UPGRADE_COMMAND_H_
