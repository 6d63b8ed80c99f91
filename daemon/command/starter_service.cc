#include "daemon/command/starter_service.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/command/options.h"
#include "daemon/host/log.h"
#include "daemon/host/steady_time.h"
#include "daemon/systemd/control_group.h"
#include "daemon/systemd/manager.h"
#include "daemon/systemd/scope.h"
#include "daemon/wire/client.h"

namespace evermap {
namespace {

constexpr char kMapperUnit[] = "epmd.service";
constexpr char kScopeDescription[] = "Erlang Port Mapper Daemon, started by a node";
// systemd names the process that it has executed itself; whatever that starts inherits the name.
constexpr char kExecutedPidVariable[] = "SYSTEMD_EXEC_PID";
// How long to wait before the next look whether the mapper answers.
constexpr absl::Duration kPollPause = absl::Milliseconds(10);
// How long a mapper may take to answer that it is there.
constexpr absl::Duration kServiceProbeTimeout = absl::Seconds(1);

bool IsService(std::string_view unit) { return unit.ends_with(".service"); }

// What systemd tells of epmd.service.
class MapperUnit {
 public:
  // `manager` must outlive this.
  explicit MapperUnit(SystemdManager& manager) : manager_(manager) {}

  // False when the unit is not installed. The other methods may be called after it was found.
  bool Find() {
    absl::StatusOr<std::string> path = manager_.LoadUnit(kMapperUnit);
    if (!path.ok()) return false;
    path_ = *std::move(path);
    return Property("LoadState") == "loaded";
  }

  // The port of its mapper: the unit's environment names it, as the unit's documentation asks for.
  uint16_t port() const {
    const auto variables = manager_.Texts(path_, kServiceInterface, "Environment");
    uint16_t port = protocol::kDefaultPort;
    if (!variables.ok()) return port;
    const std::string setting = absl::StrCat(kPortVariable, "=");
    for (const std::string& variable : *variables) {
      if (!variable.starts_with(setting)) continue;
      port = static_cast<uint16_t>(atoi(variable.c_str() + setting.size()));
    }
    return port;
  }

  // Whether the mapper serves or may still come to that.
  bool MayServe() const {
    const std::string state = Property("ActiveState");
    return state == "active" || state == "activating" || state == "reloading" ||
           !manager_.Job(path_).value_or("").empty();
  }

 private:
  std::string Property(std::string_view name) const {
    return manager_.Text(path_, kUnitInterface, name).value_or("");
  }

  SystemdManager& manager_;
  std::string path_;
};

}  // namespace

std::optional<Service> ServiceOfStarter() {
  const char* executed_pid = getenv(kExecutedPidVariable);
  if (executed_pid != nullptr && atoi(executed_pid) == getpid()) return std::nullopt;
  Service service{.unit = OwnUserUnit()};
  service.of_user = !service.unit.empty();
  if (!service.of_user) service.unit = OwnSystemUnit();
  // A process in user@UID.service itself is in no unit of that user's manager, so there is no
  // service to leave.
  if (!IsService(service.unit) || service.unit == kMapperUnit ||
      (!service.of_user && service.unit.starts_with("user@"))) {
    return std::nullopt;
  }
  return service;
}

bool IsMapperThere(uint16_t port) {
  for (const std::string_view host : {"127.0.0.1", "::1"}) {
    if (Client(host, port, {.timeout = kServiceProbeTimeout}).Answers().ok()) return true;
  }
  return false;
}

bool StartMapperService(uint16_t port) {
  absl::StatusOr<SystemdManager> manager = SystemdManager::Connect(false, kManagerTimeout);
  if (!manager.ok()) return false;
  MapperUnit unit(*manager);
  if (!unit.Find() || unit.port() != port) return false;
  if (const absl::Status started = manager->StartUnit(kMapperUnit); !started.ok()) {
    Log(Severity::kNotice, "%s is installed, but does not start: %s", kMapperUnit,
        started.message());
    return false;
  }
  const absl::Time deadline = SteadyNow() + kServiceStartTimeout;
  while (!IsMapperThere(port)) {
    if (!unit.MayServe() || SteadyNow() > deadline) {
      Log(Severity::kWarning, "%s was started, but does not answer on port %d", kMapperUnit, port);
      return false;
    }
    absl::SleepFor(kPollPause);
  }
  return true;
}

void LeaveService(const Service& service, uint16_t port) {
  const std::string scope = absl::StrCat("epmd-", port, "-", getpid(), ".scope");
  absl::StatusOr<SystemdManager> manager =
      SystemdManager::Connect(service.of_user, kManagerTimeout);
  const absl::Status left = manager.ok()
                                ? EnterScope(*manager, scope, kScopeDescription, kLeaveTimeout)
                                : manager.status();
  if (!left.ok()) {
    Log(Severity::kWarning,
        "was started by a node of %s, and ends together with it, as it may not leave it: %s; have "
        "%s started before, or enable epmd.socket",
        service.unit, left.message(), kMapperUnit);
    return;
  }
  Log(Severity::kNotice, "was started by a node of %s, and has left it for %s", service.unit,
      scope);
}

}  // namespace evermap
