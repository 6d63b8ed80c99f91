// Where registries lie: the usual paths, and the names of the files beside a registry. Nothing else in
// the project puts such a path together.
//
// Depends on nothing but the standard library and the kernel, since the C library is made of it too.
//
// Thread safety: all functions are pure or ask the file system and the environment; the environment
// must not be changed meanwhile.
#ifndef EVERMAP_REGISTRY_LOCATION_H_
#define EVERMAP_REGISTRY_LOCATION_H_

#include <cstdint>
#include <string>

namespace evermap {

// Says whether $RUNTIME_DIRECTORY is meant for this process, although systemd has executed an
// ancestor and not it: when that ancestor has started it to be the mapper, too. If not, the variable
// is removed unless systemd has executed this very process, so that no descendant takes it for its
// own.
void InheritRuntimeDirectory(bool is_meant);

// Path where a mapper on `port` that this user starts keeps its registry by default:
// $RUNTIME_DIRECTORY (the first of several), unless systemd has set it for another process, else
// /run/evermap for the user that it belongs to, and for root unless it is another user's, else
// $XDG_RUNTIME_DIR/epmd where that is a directory of the caller's, else /dev/shm/epmd-UID; then
// "/registry.PORT". When a registry of this network namespace alone is there
// (NamespaceRegistryPath()), it is that. In place of /run/evermap it is /run/epmd as long as a registry
// of release 0.1.0 is there, and none in /run/evermap.
//
// A process inherits $RUNTIME_DIRECTORY from whatever service has started it, and that directory is
// removed with that service. $SYSTEMD_EXEC_PID tells which process was meant.
std::string DefaultRegistryPath(uint16_t port);
// The same for a network namespace whose usual path another one has: that path and ".net-" with the
// number of the namespace.
std::string NamespaceRegistryPath(uint16_t port);
// Path where the system's service on `port` keeps its registry.
std::string SystemRegistryPath(uint16_t port);

// Which of two mappers on one port is meant when nobody says so.
enum class Preference : uint8_t {
  kOwn,     // the one that this user runs: for people, who ask about their own first
  kSystem,  // the system's service: for what watches a host
};
// Path of the registry of the mapper on `port` when nobody names one: SystemRegistryPath() if a file
// is there, else DefaultRegistryPath(). Who prefers the own one has that, if a mapper lives there: what
// an earlier one has left says nothing about who serves the port now. What somebody else has put where
// this user's would lie, in /dev/shm/epmd-UID, is nobody's: SystemRegistryPath() then, too.
std::string UsualRegistryPath(uint16_t port, Preference preference);

// Names of the files beside the registry at `path`.
//
// File of the writers' places (writer_place.h).
inline std::string LockPath(const std::string& path) { return path + ".lock"; }
// The registry that a migration replaced, until it is finished (migration.h).
inline std::string PreviousPath(const std::string& path) { return path + ".previous"; }
// The registry that a migration builds (migration.h).
inline std::string MigratingPath(const std::string& path) { return path + ".migrating"; }
// What the mapper's settings are (settings_note.h).
inline std::string SettingsNotePath(const std::string& path) { return path + ".settings"; }

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_LOCATION_H_
