// Checks of a registry: whether it can be read, whether its mapper runs, and whether that mapper is
// the one that answers.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_REGISTRY_CHECKS_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_REGISTRY_CHECKS_H_

#include <cstdint>

#include "registry/status.h"
#include "tools/epmdctl/current_registry.h"
#include "tools/epmdctl/doctor/report.h"

namespace evermap {

struct RegistryFindings {
  bool can_be_read = false;
  MapperStatus mapper;       // the last mapper of this registry
  bool mapper_runs = false;  // false also when the registry cannot be read
};

RegistryFindings ExamineRegistry(CurrentRegistry& registry, Report& report);

// Whether the mapper that answers on `port` of this host knows the nodes that the registry has; if
// not, it is another one. Says nothing when either cannot be asked any more.
void CompareAnswers(CurrentRegistry& registry, uint16_t port, Report& report);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_REGISTRY_CHECKS_H_
