// The directory of a registry: made where it is missing, and refused where it is not safe.
//
// Thread safety: a function without state.
#ifndef EVERMAP_REGISTRY_DIRECTORY_H_
#define EVERMAP_REGISTRY_DIRECTORY_H_

#include <string>

#include "absl/status/status.h"

namespace evermap {

// Makes the directory of `registry_path` with mode 0755 if it is not there (its parent must be).
// kResourceExhausted: there is no place to write at.
// kFailedPrecondition when what is there is no directory, is a symbolic link, belongs to another
// user or may be written by others: somebody else could then replace the registry. Meant for the
// default path; a path that the user chose needs only to exist.
absl::Status MakeRegistryDirectory(const std::string& registry_path);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_DIRECTORY_H_
