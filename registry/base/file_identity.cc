#include "registry/base/file_identity.h"

#include <sys/stat.h>

namespace evermap {

FileIdentity IdentityOf(int fd) {
  struct stat file;
  if (fstat(fd, &file) != 0) return {};
  return {file.st_dev, file.st_ino};
}

FileIdentity IdentityAt(const std::string& path) {
  struct stat file;
  if (lstat(path.c_str(), &file) != 0) return {};
  return {file.st_dev, file.st_ino};
}

std::string StoredName(int fd) {
  const FileIdentity identity = IdentityOf(fd);
  return "file." + std::to_string(identity.device) + "." + std::to_string(identity.inode);
}

}  // namespace evermap
