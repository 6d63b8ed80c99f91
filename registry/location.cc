#include "registry/location.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "registry/base/owned_fd.h"
#include "registry/base/path.h"
#include "registry/owner.h"

namespace evermap {
namespace {

constexpr char kSystemDirectory[] = "/run/evermap";
// Where release 0.1.0 kept the system's registry. Debian's erlang-base removes that directory.
constexpr char kFormerSystemDirectory[] = "/run/epmd";

// Whether what the environment says of a service is said of this very process: systemd has executed
// it, or the variable is from somebody else, who set it on purpose.
bool IsSaidOfThisProcess() {
  const char* text = getenv("SYSTEMD_EXEC_PID");
  return text == nullptr || text == std::to_string(getpid());
}

// Set once, before there are threads.
bool g_runtime_directory_is_meant = false;

// Whether this user keeps registries in a directory of the system: it is this user's, or root makes
// it, or sets it right. Root has no business in that of the service's user, who could not read what
// lies there.
bool MayBeOwn(const char* directory) {
  struct stat status;
  if (geteuid() == 0 && (lstat(directory, &status) != 0 || status.st_uid == 0)) return true;
  return DirectoryComplaint(directory, geteuid()).empty();
}

// Where this user keeps registries when there is no directory of his own. Everybody may make it.
std::string SharedDirectory() { return "/dev/shm/epmd-" + std::to_string(geteuid()); }

// Whether somebody else has made that one, or may write to it: what lies there is not this user's.
bool IsStrangers(const std::string& directory) {
  struct stat status;
  return directory == SharedDirectory() && lstat(directory.c_str(), &status) == 0 &&
         !DirectoryComplaint(directory, geteuid()).empty();
}

std::string DefaultDirectory() {
  const char* runtime_directory = getenv("RUNTIME_DIRECTORY");
  if (runtime_directory != nullptr && *runtime_directory != '\0' &&
      (g_runtime_directory_is_meant || IsSaidOfThisProcess())) {
    return std::string(runtime_directory, strcspn(runtime_directory, ":"));
  }
  if (MayBeOwn(kSystemDirectory)) return kSystemDirectory;
  const char* user_directory = getenv("XDG_RUNTIME_DIR");
  if (user_directory != nullptr && *user_directory == '/' &&
      DirectoryComplaint(user_directory, geteuid()).empty()) {
    return std::string(user_directory) + "/epmd";
  }
  return SharedDirectory();
}

std::string RegistryIn(const std::string& directory, uint16_t port) {
  return directory + "/registry." + std::to_string(port);
}

bool IsThere(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// Whether anybody writes to the registry at `path`, or may be about to: who does has a lock in its
// lock file (writer_place.h), and a keeper has the mapper's. Also when that cannot be told.
bool IsWritten(const std::string& path) {
  const OwnedFd fd(
      open(LockPath(path).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return errno != ENOENT;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return fcntl(fd.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

}  // namespace

void InheritRuntimeDirectory(bool is_meant) {
  g_runtime_directory_is_meant = is_meant || IsSaidOfThisProcess();
  if (!g_runtime_directory_is_meant) unsetenv("RUNTIME_DIRECTORY");
}

std::string NamespaceRegistryPath(uint16_t port) {
  return RegistryIn(DefaultDirectory(), port) + ".net-" +
         std::to_string(OwnNetworkNamespace().number);
}

std::string DefaultRegistryPath(uint16_t port) {
  std::string of_namespace = NamespaceRegistryPath(port);
  if (IsThere(of_namespace)) return of_namespace;
  const std::string directory = DefaultDirectory();
  // What 0.1.0 has left is taken over, unless its directory is another user's.
  const bool may_be_former = directory == kSystemDirectory &&
                             DirectoryComplaint(kFormerSystemDirectory, geteuid()).empty();
  return may_be_former ? SystemRegistryPath(port) : RegistryIn(directory, port);
}

std::string SystemRegistryPath(uint16_t port) {
  std::string path = RegistryIn(kSystemDirectory, port);
  std::string former = RegistryIn(kFormerSystemDirectory, port);
  return !IsThere(path) && IsThere(former) ? former : path;
}

std::string UsualRegistryPath(uint16_t port, Preference preference) {
  std::string own = DefaultRegistryPath(port);
  std::string of_system = SystemRegistryPath(port);
  if (IsStrangers(DirectoryOf(own))) return of_system;
  if (!IsThere(of_system)) return own;
  return preference == Preference::kOwn && IsThere(own) && IsWritten(own) ? own : of_system;
}

}  // namespace evermap
