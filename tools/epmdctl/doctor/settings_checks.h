// Checks of the settings of the mapper of a registry: whether what counts is what the files say.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_SETTINGS_CHECKS_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_SETTINGS_CHECKS_H_

#include <string>

#include "tools/epmdctl/doctor/report.h"

namespace evermap {

// REQUIRES: the mapper of the registry runs.
void ExamineSettings(const std::string& registry_path, Report& report);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_SETTINGS_CHECKS_H_
