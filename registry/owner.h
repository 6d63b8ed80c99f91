// Whose registry it is: the words of the header that name the lock, the network namespace and the
// port of the mapper that a registry belongs to (INV-11).
//
// Thread safety: all functions may be called from any thread. The words are written by the mapper
// that holds the opening lock, before it serves.
//
// Depends on nothing but the standard library and the kernel, since readers follow it, too.
#ifndef EVERMAP_REGISTRY_OWNER_H_
#define EVERMAP_REGISTRY_OWNER_H_

#include <cstdint>

#include "registry/base/file_identity.h"

namespace evermap {

class Segment;  // segment.h

// A network namespace. The kernel numbers each one anew (SO_NETNS_COOKIE, Linux 5.14); where it does
// not tell that number, the inode of /proc/self/ns/net stands for it, which may be used again later.
struct NetworkNamespace {
  uint64_t number = 0;  // 0: not known
  bool is_cookie = false;
  bool operator==(const NetworkNamespace&) const = default;
};
// Whether both may be one namespace. Of two of which one is not known, or that are told in different
// ways, nobody knows that they are two.
bool MayBeOneNamespace(const NetworkNamespace& one, const NetworkNamespace& other);
// The one that this process is in; not known when the kernel cannot say now, as without a descriptor.
NetworkNamespace OwnNetworkNamespace();

struct RegistryOwner {
  FileIdentity lock;  // the lock file (writer_place.h)
  NetworkNamespace network_namespace;
  uint16_t port = 0;
  bool operator==(const RegistryOwner&) const = default;
  // False for a registry of Evermap 0.1.0, which did not say, and for a new one.
  bool is_known() const { return lock.inode != 0; }
};
RegistryOwner ReadOwner(const Segment& segment);
// A network namespace that is not known leaves the one that is written there.
// REQUIRES: `segment` is mapped for writing, and has the newest layout.
void WriteOwner(const RegistryOwner& owner, Segment& segment);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_OWNER_H_
