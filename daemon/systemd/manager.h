// What is asked of the manager of systemd, of the system or of a user: some methods of its D-Bus
// interface (org.freedesktop.systemd1(5)).
//
//   absl::StatusOr<SystemdManager> manager = SystemdManager::Connect(/*of_user=*/false, timeout);
//   if (manager.ok()) absl::Status started = manager->StartUnit("epmd.service");
//
// Errors are texts for a log: what systemd says, or the socket and what is wrong with it.
// Thread safety: one thread at a time.
#ifndef EVERMAP_DAEMON_SYSTEMD_MANAGER_H_
#define EVERMAP_DAEMON_SYSTEMD_MANAGER_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/systemd/bus.h"

namespace evermap {

inline constexpr char kUnitInterface[] = "org.freedesktop.systemd1.Unit";
inline constexpr char kServiceInterface[] = "org.freedesktop.systemd1.Service";
inline constexpr char kJobInterface[] = "org.freedesktop.systemd1.Job";

class SystemdManager {
 public:
  // Connects to the manager of this process's user, or to that of the system. `timeout` is how long
  // this, and each question later, may take.
  static absl::StatusOr<SystemdManager> Connect(bool of_user, absl::Duration timeout);
  // Connects to the manager at the socket `path`; a bus, where `is_bus`, wants to be greeted first.
  static absl::StatusOr<SystemdManager> ConnectTo(const std::string& path, bool is_bus,
                                                  absl::Duration timeout);

  // The path of the object of a unit, which need not be installed: its LoadState tells.
  absl::StatusOr<std::string> LoadUnit(std::string_view unit);
  // Properties of the object at `path`: a text, a list of texts, and, of a unit, the path of the job
  // that waits or runs, empty for none.
  absl::StatusOr<std::string> Text(std::string_view path, std::string_view interface,
                                   std::string_view property);
  absl::StatusOr<std::vector<std::string>> Texts(std::string_view path, std::string_view interface,
                                                 std::string_view property);
  absl::StatusOr<std::string> Job(std::string_view path);
  // A property that is a number of 64 bits without a sign, such as a time in us.
  absl::StatusOr<uint64_t> Number(std::string_view path, std::string_view interface,
                                  std::string_view property);

  // Has a unit started; is there before the unit is. It does not replace a job that waits already,
  // such as a stop when the host goes down.
  absl::Status StartUnit(std::string_view unit);
  // Has a unit restarted, and none that requires it; is there before the unit is. It replaces a job
  // of the unit's that waits already. (TryRestartUnit does nothing for one that waits for its automatic
  // restart.)
  absl::Status RestartUnitAlone(std::string_view unit);
  // Makes a scope of this name with the process `pid` in it, which goes when that has ended.
  absl::Status StartScope(std::string_view scope, std::string_view description, pid_t pid);

 private:
  explicit SystemdManager(Bus bus) : bus_(std::move(bus)) {}

  // What method `member` of the manager returns.
  absl::StatusOr<BusMessage> Call(std::string_view member, std::string_view signature,
                                  const BusWriter& arguments);
  // The message whose body is a variant of `type`, the value of a property.
  absl::StatusOr<BusMessage> Property(std::string_view path, std::string_view interface,
                                      std::string_view property);

  Bus bus_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SYSTEMD_MANAGER_H_
