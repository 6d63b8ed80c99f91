// Signals that are read from a descriptor.
#ifndef EVERMAP_DAEMON_HOST_SIGNAL_DESCRIPTOR_H_
#define EVERMAP_DAEMON_HOST_SIGNAL_DESCRIPTOR_H_

#include <initializer_list>

#include "registry/base/owned_fd.h"

namespace evermap {

// A signalfd(2) of these signals, which are blocked from now on in this thread and in those that it
// starts; it does not wait. SIGPIPE is ignored: who writes learns of it from the error.
//
// Errors: invalid, and errno says why.
OwnedFd SignalDescriptor(std::initializer_list<int> signals);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_SIGNAL_DESCRIPTOR_H_
