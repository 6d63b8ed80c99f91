// Checks of mappers: whether one answers, and which processes of this host hold its port or run as
// other mappers.
#ifndef EVERMAP_TOOLS_EPMDCTL_DOCTOR_MAPPER_CHECKS_H_
#define EVERMAP_TOOLS_EPMDCTL_DOCTOR_MAPPER_CHECKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "registry/status.h"
#include "tools/epmdctl/doctor/registry_checks.h"
#include "tools/epmdctl/doctor/report.h"
#include "tools/epmdctl/host/processes.h"

namespace evermap {

// Whether a mapper answers on `port` of `host`. `check`: the name of this check in the report.
bool ExamineAnswer(const char* check, const std::string& host, uint16_t port, Report& report);

// The processes of this host around a mapper's port. Looks at /proc once, when it is made.
class MapperProcesses {
 public:
  MapperProcesses(uint16_t port, const RegistryFindings& registry);

  // Whether others than the mapper of the registry hold the port.
  void ExamineHolders(Report& report) const;
  // Whether other hosts can reach the port.
  void ExamineAddress(Report& report) const;
  // Whether mappers on other ports run, with which a node may have registered by mistake.
  void ExamineOtherMappers(Report& report) const;

 private:
  // Whether the process is the mapper of the registry or keeps its sockets, as a keeper, systemd
  // or the predecessor in an upgrade does.
  bool IsOfMapper(const Process& process) const;

  const uint16_t port_;
  const bool mapper_runs_;
  const pid_t mapper_pid_;
  const std::vector<ListeningSocket> sockets_;
  const std::vector<Process> processes_;  // those that hold a socket, and all called "epmd"
};

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_DOCTOR_MAPPER_CHECKS_H_
