// Places at which a test lets a process die or stop: the steps of an upgrade and of a keeper's
// work.
//
// Only the test variant of the mapper is linked with fault_point.cc; the one that is installed has no_fault_points.cc.
// EPMD_FAULTS=POINT=ACTION[,POINT=ACTION...] chooses; ACTION is kill, segv, exit or stop.
#ifndef EVERMAP_DAEMON_PROCESS_FAULT_POINT_H_
#define EVERMAP_DAEMON_PROCESS_FAULT_POINT_H_

namespace evermap {

// Does what EPMD_FAULTS says of `point`; nothing when it says nothing.
void FaultPoint(const char* point);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_FAULT_POINT_H_
