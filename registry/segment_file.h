// Registry files as files: found and examined before anything in them is looked at, and made.
//
// A file is accepted only if nobody but its owner can change it, since a file that is cut short
// under a mapping kills its reader (SIGBUS). Depends on nothing but the standard library and the
// kernel, since the C library is made of it too.
#ifndef EVERMAP_REGISTRY_SEGMENT_FILE_H_
#define EVERMAP_REGISTRY_SEGMENT_FILE_H_

#include <cstdint>
#include <string>

#include "registry/base/owned_fd.h"
#include "registry/problem.h"
#include "registry/segment_header.h"

namespace evermap {

enum class SegmentAccess : uint8_t {
  kRead,   // owned by the caller, by root, or by the owner of its directory
  kWrite,  // owned by the caller
};

// Opens the file at `path` and examines it; on failure an invalid one, and `problem` says why
// (kNotFound: there is no file). Changes nothing. Fills `file_size`, which is at least
// layout::kHeaderSizeMin. For readers: a file that belongs to neither the caller nor root is
// accepted only where its directory belongs to the same user and nobody else may write to that; a
// caller that names such a path trusts that user.
OwnedFd OpenSegmentFile(const std::string& path, SegmentAccess access, uint64_t& file_size,
                        Problem& problem);

// Examines a file that is open already, for a caller that does not rely on its path.
Problem ExamineSegmentFile(const std::string& path, int fd, SegmentAccess access,
                           uint64_t& file_size);

// Makes an empty registry that is a file without a name; on failure an invalid descriptor.
// REQUIRES: 1 <= capacity <= kRegistryCapacityMax.
OwnedFd CreateUnnamedSegmentFile(const std::string& path, uint32_t capacity, Problem& problem);

// Makes an empty registry with mode 0644 in the newest layout, which gets its name only when it is
// complete. If another file took the name meanwhile, that is no problem: the new one is dropped.
// REQUIRES: 1 <= capacity <= kRegistryCapacityMax.
Problem CreateSegmentFile(const std::string& path, uint32_t capacity);

// Makes an empty registry with mode 0644 at `path`, where there must be none; on failure an invalid
// descriptor, and what has been made is left there.
// REQUIRES: 1 <= origin.capacity <= kRegistryCapacityMax.
OwnedFd CreateSegmentFileAt(const std::string& path, const SegmentOrigin& origin, Problem& problem);

// Makes a file longer, so that it has the range, and gives that memory, so that writing to it cannot end
// in SIGBUS on a full file system. Changes nothing in what it has; several processes may do this to one
// file at once. False: that cannot be done (errno says why). REQUIRES: the file has, or gets from another
// process, all that is before the range.
bool ExtendFile(int fd, uint64_t offset, uint64_t bytes);

// Gives a file the time of now as that of its last modification, which wakes all who watch it (watch.h).
// An errno; 0: done.
int TouchFile(int fd);

// The problem that system call error `error` at `path` is, with the way out.
Problem SystemProblem(const std::string& path, const std::string& what, int error);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SEGMENT_FILE_H_
