// What the registry knows of one node: the words shared by writers (registry.h) and readers
// (reader.h). Depends on nothing but the standard library.
#ifndef EVERMAP_REGISTRY_REGISTRATION_H_
#define EVERMAP_REGISTRY_REGISTRATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace evermap {

// 255 code points of at most 4 bytes each; the limit that the stock epmd puts on both.
inline constexpr size_t kRegistryNameSizeMax = 1020;
inline constexpr size_t kRegistryExtraSizeMax = 1020;
inline constexpr uint32_t kRegistryCapacityDefault = 65536;
inline constexpr uint32_t kRegistryCapacityMax = 1u << 24;
// Creations below this are told apart by old nodes only in two bits, so they are never given out.
inline constexpr uint32_t kCreationMin = 4;

// What a writer says of a node. Views are copied into the segment.
struct NodeRecord {
  std::string_view name = {};   // 1..1020 bytes, any bytes but NUL
  std::string_view extra = {};  // 0..1020 bytes
  uint16_t port = 0;
  uint8_t node_type = 0;
  uint8_t protocol = 0;
  uint16_t highest_version = 0;
  uint16_t lowest_version = 0;
  // SO_COOKIE of the connection that keeps the registration alive (INV-9).
  uint64_t connection_cookie = 0;
  // Socket cookie (SO_COOKIE, idiag_cookie of sock_diag) of the socket on which the node listens
  // for other nodes; 0 when not known. Unlike its inode it is not used again while the system runs.
  uint64_t listener_cookie = 0;
  uint32_t owner_uid = ~0u;  // of the process behind the connection, ~0 when not known
  uint32_t owner_pid = 0;    // 0 when not known
};

// What is found out about a node only after its registration. What is not set stays as it is.
struct Amendment {
  std::optional<uint64_t> listener_cookie = {};
  std::optional<uint32_t> owner_uid = {};
  std::optional<uint32_t> owner_pid = {};
};

enum class RegistrationState : uint8_t {
  kLive,        // its connection is held by somebody
  kOrphaned,    // still looked up, but its connection was lost
  kRemembered,  // unregistered; only the name, its last port and its creation are known
};

// A consistent copy of one registration (INV-1). About 2 KiB; reuse one object rather than making
// many. The bytes beyond name_size and extra_size are not initialised.
struct Registration {
  uint64_t id = 0;    // unique for the life of the segment (INV-4), never 0
  uint32_t slot = 0;  // index of its record; stays the same while the registration lives
  RegistrationState state = RegistrationState::kLive;
  uint32_t creation = 0;
  uint16_t port = 0;
  uint8_t node_type = 0;
  uint8_t protocol = 0;
  uint16_t highest_version = 0;
  uint16_t lowest_version = 0;
  uint64_t connection_cookie = 0;
  uint64_t listener_cookie = 0;
  uint32_t owner_uid = 0;
  uint32_t owner_pid = 0;
  // CLOCK_REALTIME at registration.
  int64_t since_unix_ns = 0;
  // Likewise when it was orphaned or unregistered; 0 for kLive. For people: what is decided by it is
  // decided by `departure`, as anybody may set that clock.
  int64_t left_unix_ns = 0;
  // The same in ns of the registry's steady time (RegistryView::SteadyNs()); 0 for kLive. No two
  // departures are the same; larger is later.
  uint64_t departure = 0;
  uint16_t name_size = 0;
  uint16_t extra_size = 0;                  // 0 for kRemembered
  char name_bytes[kRegistryNameSizeMax];    // name_size of them are valid
  char extra_bytes[kRegistryExtraSizeMax];  // extra_size of them are valid

  std::string_view name() const { return {name_bytes, name_size}; }
  std::string_view extra() const { return {extra_bytes, extra_size}; }
};

// Names one registration: `slot` says where its record is, and `id` (INV-4) that it is still the
// same registration, and not a later one in the same slot. Id 0 names none.
struct RegistrationRef {
  uint32_t slot = 0;
  uint64_t id = 0;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_REGISTRATION_H_
