// Which file a descriptor or a path leads to.
//
// Thread safety: functions without state.
#ifndef EVERMAP_REGISTRY_BASE_FILE_IDENTITY_H_
#define EVERMAP_REGISTRY_BASE_FILE_IDENTITY_H_

#include <cstdint>
#include <string>

namespace evermap {

// A file, as the kernel tells files apart. All zero: none.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};
// All zero when `fd` is not open.
FileIdentity IdentityOf(int fd);
// All zero when nothing is at `path`. A symbolic link is not followed.
FileIdentity IdentityAt(const std::string& path);

// The name under which a store holds file `fd`: it follows from the file, so that all who hold it
// call it the same.
std::string StoredName(int fd);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_FILE_IDENTITY_H_
