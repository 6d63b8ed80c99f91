// Places at which a test lets a process die or stop: the steps of an upgrade and of a keeper's
// work.
//
// A point is named PROCESS:STEP. The variable EPMD_FAULTS=POINT=ACTION[,POINT=ACTION...] says what
// happens there; ACTION is kill, segv, exit or stop. Only the mapper of the tests (epmd_faults) is
// linked with fault_point.cc; the one that is installed has no_fault_points.cc, where a point does
// nothing.
#ifndef EVERMAP_DAEMON_PROCESS_FAULT_POINT_H_
#define EVERMAP_DAEMON_PROCESS_FAULT_POINT_H_

namespace evermap {

// Does what EPMD_FAULTS says of `point`, if anything.
void FaultPoint(const char* point);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_FAULT_POINT_H_
