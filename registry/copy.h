// A copy of a registry file as it is, byte for byte: for a registry that needs another file, since the
// kernel names no file again that has lost its last name.
//
// The copy is marked as superseded (L-13) until its maker takes the mark away, so that whoever is
// given both files goes on with the one that was copied.
//
// Thread safety: none is needed; see each function for who may write meanwhile.
#ifndef EVERMAP_REGISTRY_COPY_H_
#define EVERMAP_REGISTRY_COPY_H_

#include <string>

#include "registry/base/owned_fd.h"
#include "registry/segment.h"

namespace evermap {

// Makes the file `path`, where there must be none, with mode 0644 and with as much memory as the file
// of `from` has. Of its content it gets the first page. Invalid when that cannot be done (errno says
// why); what was made may be left. Others may write to `from` meanwhile.
OwnedFd BeginCopy(const std::string& path, const Segment& from);

// Makes the file `copy`, which BeginCopy() has made, the same as that of `from`, which may have grown
// meanwhile, and waits until it is on the disk, if it is on one. An errno, or 0. REQUIRES: nobody
// writes to `from`.
int FinishCopy(const Segment& from, int copy);

// Writes the mark "superseded" into the registry file `fd`, whose layout may be any.
void WriteSupersededMark(int fd);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_COPY_H_
