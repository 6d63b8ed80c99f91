#include "registry/base/path.h"

#include <sys/stat.h>

#include <cerrno>

#include "registry/base/text.h"

namespace evermap {

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string BaseNameOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string DirectoryComplaint(const std::string& directory, uid_t owner) {
  struct stat status;
  if (lstat(directory.c_str(), &status) != 0) {
    return "cannot be examined: " + ErrorText(errno);
  }
  if (S_ISLNK(status.st_mode)) return "is a symbolic link";
  if (!S_ISDIR(status.st_mode)) return "is not a directory";
  if (status.st_uid != owner) {
    return "belongs to user " + std::to_string(status.st_uid) + ", not to user " +
           std::to_string(owner);
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "may be written by other users";
  return "";
}

}  // namespace evermap
