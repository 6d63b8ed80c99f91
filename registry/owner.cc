#include "registry/owner.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>

#include "registry/base/owned_fd.h"
#include "registry/layout.h"
#include "registry/segment.h"

namespace evermap {
namespace {

using layout::Load;
using layout::Store;
using layout::Word;

// The fourth word: port (16 bits), and above it this bit when the namespace is told by its cookie.
constexpr uint64_t kIsCookie = uint64_t{1} << 16;

}  // namespace

NetworkNamespace OwnNetworkNamespace() {
  const OwnedFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return {};
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0) {
    return {cookie, true};
  }
  struct stat file;
  if (errno != ENOPROTOOPT) return {};
  if (stat("/proc/self/ns/net", &file) == 0) return {file.st_ino, false};
  return {};
}

bool MayBeOneNamespace(const NetworkNamespace& one, const NetworkNamespace& other) {
  const bool are_comparable =
      one.number != 0 && other.number != 0 && one.is_cookie == other.is_cookie;
  return !are_comparable || one.number == other.number;
}

RegistryOwner ReadOwner(const Segment& segment) {
  const Word* const words = segment.at<Word>(layout::kOwnerAt);
  const uint64_t last = Load(words[3]);
  return {.lock = {Load(words[0]), Load(words[1])},
          .network_namespace = {Load(words[2]), (last & kIsCookie) != 0},
          .port = static_cast<uint16_t>(last)};
}

void WriteOwner(const RegistryOwner& owner, Segment& segment) {
  assert(segment.is_newest());
  Word* const words = segment.header().owner;
  const NetworkNamespace its = owner.network_namespace.number != 0
                                   ? owner.network_namespace
                                   : ReadOwner(segment).network_namespace;
  // Without an inode it is nobody's. So a writer that dies here leaves no owner, and not half of one.
  Store(words[1], 0);
  Store(words[0], owner.lock.device);
  Store(words[2], its.number);
  Store(words[3], owner.port | (its.is_cookie ? kIsCookie : 0));
  Store(words[1], owner.lock.inode);
}

}  // namespace evermap
