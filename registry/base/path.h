// The parts of a path, and whether a directory is safe.
#ifndef EVERMAP_REGISTRY_BASE_PATH_H_
#define EVERMAP_REGISTRY_BASE_PATH_H_

#include <sys/types.h>

#include <string>

namespace evermap {

// The directory part of `path`, "." if it has none, and the part after it.
std::string DirectoryOf(const std::string& path);
std::string BaseNameOf(const std::string& path);

// What makes `directory` unsafe to keep a registry in for `owner`, as the end of a sentence that
// begins with its name; empty when nothing does.
std::string DirectoryComplaint(const std::string& directory, uid_t owner);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_PATH_H_
