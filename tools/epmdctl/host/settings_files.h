// The files of settings of this host, compared with what a mapper has read of them.
#ifndef EVERMAP_TOOLS_EPMDCTL_HOST_SETTINGS_FILES_H_
#define EVERMAP_TOOLS_EPMDCTL_HOST_SETTINGS_FILES_H_

#include <string>
#include <vector>

#include "registry/settings_note.h"

namespace evermap {

// The files that have changed, have gone, or are new since the mapper has read them. Of a directory
// that this user may not read, those that were read.
std::vector<std::string> ChangedSettingsFiles(const SettingsNote& note);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_HOST_SETTINGS_FILES_H_
