// Places at which a test lets a process die or stop: the steps of an upgrade and of a keeper's
// work.
//
// Compiled in only for the test variants of the mapper (EVERMAP_FAULT_POINTS); nothing otherwise.
// EPMD_FAULTS=POINT=ACTION[,POINT=ACTION...] chooses; ACTION is kill, segv, exit or stop.
#ifndef EVERMAP_DAEMON_FAULT_H_
#define EVERMAP_DAEMON_FAULT_H_

namespace evermap {

#ifdef EVERMAP_FAULT_POINTS
void FaultPoint(const char* point);
#else
inline void FaultPoint(const char*) {}
#endif

}  // namespace evermap

#endif  // EVERMAP_DAEMON_FAULT_H_
