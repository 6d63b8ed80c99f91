#include "daemon/command/starter_service.h"

#include <systemd/sd-bus.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/command/options.h"
#include "daemon/host/log.h"
#include "daemon/wire/client.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr char kMapperUnit[] = "epmd.service";
constexpr char kManagerName[] = "org.freedesktop.systemd1";
constexpr char kManagerPath[] = "/org/freedesktop/systemd1";
constexpr char kManagerInterface[] = "org.freedesktop.systemd1.Manager";
constexpr char kUnitInterface[] = "org.freedesktop.systemd1.Unit";
// systemd names the process that it has executed itself; whatever that starts inherits the name.
constexpr char kExecutedPidVariable[] = "SYSTEMD_EXEC_PID";
// How long to wait before the next look, whether the mapper answers or the move is done.
constexpr absl::Duration kPollPause = absl::Milliseconds(10);
// How long a mapper may take to answer that it is there.
constexpr absl::Duration kServiceProbeTimeout = absl::Seconds(1);

// Frees what libsystemd has made.
struct Free {
  void operator()(void* memory) const { free(memory); }
  void operator()(char** texts) const {
    for (char** text = texts; *text != nullptr; ++text) free(*text);
    free(static_cast<void*>(texts));
  }
  void operator()(sd_bus* bus) const { sd_bus_close_unref(bus); }
  void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using Bus = std::unique_ptr<sd_bus, Free>;
using Message = std::unique_ptr<sd_bus_message, Free>;

// What a manager has answered instead of a result.
class BusError {
 public:
  BusError() = default;
  BusError(const BusError&) = delete;
  BusError& operator=(const BusError&) = delete;
  ~BusError() { sd_bus_error_free(&error_); }
  sd_bus_error* get() { return &error_; }
  // The message, or else the text of `result`, which is the negative errno that the call returned.
  std::string Text(int result) const {
    return error_.message != nullptr ? error_.message : ErrorText(-result);
  }

 private:
  sd_bus_error error_ = {};  // SD_BUS_ERROR_NULL is C
};

// A connection to a manager; null, and errno, when there is none. It is made to the manager's own
// socket, which works without a D-Bus but only for the manager's user; systemctl does the same.
Bus ConnectToManager(bool of_user) {
  sd_bus* opened = nullptr;
  int result;
  if (!of_user && geteuid() != 0) {
    result = sd_bus_open_system(&opened);
  } else {
    const std::string address =
        of_user ? absl::StrCat("unix:path=/run/user/", geteuid(), "/systemd/private")
                : "unix:path=/run/systemd/private";
    result = sd_bus_new(&opened);
    if (result >= 0) result = sd_bus_set_address(opened, address.c_str());
    if (result >= 0) result = sd_bus_start(opened);
  }
  Bus bus(opened);
  if (result >= 0) {
    result = sd_bus_set_method_call_timeout(
        bus.get(), static_cast<uint64_t>(absl::ToInt64Microseconds(kManagerTimeout)));
  }
  if (result >= 0) return bus;
  errno = -result;
  return nullptr;
}

// The name of the unit of this process, as `find`, a function of libsystemd, finds it; empty when
// there is none.
std::string UnitName(int (*find)(pid_t, char**)) {
  char* name = nullptr;
  if (find(0, &name) < 0) return {};
  const std::unique_ptr<char, Free> owned(name);
  return name;
}

bool IsService(std::string_view unit) { return unit.ends_with(".service"); }

// What systemd tells of epmd.service.
class MapperUnit {
 public:
  // False when the unit is not installed. The other methods may be called after it was found.
  bool Find(sd_bus* bus) {
    bus_ = bus;
    BusError error;
    sd_bus_message* reply = nullptr;
    const int result = sd_bus_call_method(bus, kManagerName, kManagerPath, kManagerInterface,
                                          "LoadUnit", error.get(), &reply, "s", kMapperUnit);
    const Message owned(reply);
    const char* path = nullptr;
    if (result < 0 || sd_bus_message_read(reply, "o", &path) < 0) return false;
    path_ = path;
    return Property("LoadState") == "loaded";
  }

  // The port of its mapper: the unit's environment names it, as the unit's documentation asks for.
  uint16_t port() const {
    char** variables = nullptr;
    if (sd_bus_get_property_strv(bus_, kManagerName, path_.c_str(),
                                 "org.freedesktop.systemd1.Service", "Environment", nullptr,
                                 &variables) < 0 ||
        variables == nullptr) {
      return protocol::kDefaultPort;
    }
    const std::unique_ptr<char*, Free> owned(variables);
    uint16_t port = protocol::kDefaultPort;
    for (char** variable = variables; *variable != nullptr; ++variable) {
      std::string_view text(*variable);
      if (!text.starts_with(kPortVariable)) continue;
      text.remove_prefix(sizeof(kPortVariable) - 1);
      // The text ends with a zero, as the whole variable does.
      if (text.starts_with('=')) port = static_cast<uint16_t>(atoi(text.data() + 1));
    }
    return port;
  }

  // Whether the mapper serves or may still come to that.
  bool MayServe() const {
    const std::string state = Property("ActiveState");
    return state == "active" || state == "activating" || state == "reloading" || HasJob();
  }

 private:
  std::string Property(const char* name) const {
    char* text = nullptr;
    if (sd_bus_get_property_string(bus_, kManagerName, path_.c_str(), kUnitInterface, name, nullptr,
                                   &text) < 0) {
      return {};
    }
    const std::unique_ptr<char, Free> owned(text);
    return text;
  }

  bool HasJob() const {
    sd_bus_message* reply = nullptr;
    const int result = sd_bus_get_property(bus_, kManagerName, path_.c_str(), kUnitInterface, "Job",
                                           nullptr, &reply, "(uo)");
    const Message owned(reply);
    uint32_t id = 0;
    const char* path = nullptr;
    return result >= 0 && sd_bus_message_read(reply, "(uo)", &id, &path) >= 0 && id != 0;
  }

  sd_bus* bus_ = nullptr;
  std::string path_;
};

// Asks for a scope of this name with this process in it. Returns a negative errno, with `error`
// set, or a number that is not negative.
int StartScope(sd_bus* bus, const std::string& scope, BusError& error) {
  sd_bus_message* created = nullptr;
  int result = sd_bus_message_new_method_call(bus, &created, kManagerName, kManagerPath,
                                              kManagerInterface, "StartTransientUnit");
  const Message message(created);
  const auto then = [&result](auto step) {
    if (result >= 0) result = step();
  };
  then([&] { return sd_bus_message_append(created, "ss", scope.c_str(), "fail"); });
  then([&] { return sd_bus_message_open_container(created, 'a', "(sv)"); });
  then([&] {
    return sd_bus_message_append(created, "(sv)", "Description", "s",
                                 "Erlang Port Mapper Daemon, started by a node");
  });
  then([&] {
    return sd_bus_message_append(created, "(sv)", "PIDs", "au", 1, static_cast<uint32_t>(getpid()));
  });
  then([&] {
    return sd_bus_message_append(created, "(sv)", "CollectMode", "s", "inactive-or-failed");
  });
  then([&] { return sd_bus_message_close_container(created); });
  then([&] { return sd_bus_message_append(created, "a(sa(sv))", 0); });
  then([&] { return sd_bus_call(bus, created, 0, error.get(), nullptr); });
  return result;
}

}  // namespace

std::optional<Service> ServiceOfStarter() {
  const char* executed_pid = getenv(kExecutedPidVariable);
  if (executed_pid != nullptr && atoi(executed_pid) == getpid()) return std::nullopt;
  Service service{.unit = UnitName(sd_pid_get_user_unit)};
  service.of_user = !service.unit.empty();
  if (!service.of_user) service.unit = UnitName(sd_pid_get_unit);
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
    if (Client(host, port, {.timeout = kServiceProbeTimeout}).NamesText().ok()) return true;
  }
  return false;
}

bool StartMapperService(uint16_t port) {
  const Bus bus = ConnectToManager(false);
  MapperUnit unit;
  if (bus == nullptr || !unit.Find(bus.get()) || unit.port() != port) return false;
  BusError error;
  // "fail": the start must not replace a job that waits already, as a stop when the host goes down.
  const int result =
      sd_bus_call_method(bus.get(), kManagerName, kManagerPath, kManagerInterface, "StartUnit",
                         error.get(), nullptr, "ss", kMapperUnit, "fail");
  if (result < 0) {
    Log(Severity::kNotice, "%s is installed, but does not start: %s", kMapperUnit,
        error.Text(result));
    return false;
  }
  const absl::Time deadline = absl::Now() + kServiceStartTimeout;
  while (!IsMapperThere(port)) {
    if (!unit.MayServe() || absl::Now() > deadline) {
      Log(Severity::kWarning, "%s was started, but does not answer on port %d", kMapperUnit, port);
      return false;
    }
    absl::SleepFor(kPollPause);
  }
  return true;
}

void LeaveService(const Service& service, uint16_t port) {
  const std::string scope = absl::StrCat("epmd-", port, "-", getpid(), ".scope");
  BusError error;
  const Bus bus = ConnectToManager(service.of_user);
  const int result = bus == nullptr ? -errno : StartScope(bus.get(), scope, error);
  if (result < 0) {
    Log(Severity::kWarning,
        "was started by a node of %s, and ends together with it, as it may not leave it: %s; have "
        "%s started before, or enable epmd.socket",
        service.unit, error.Text(result), kMapperUnit);
    return;
  }
  const absl::Time deadline = absl::Now() + kLeaveTimeout;
  while (UnitName(service.of_user ? sd_pid_get_user_unit : sd_pid_get_unit) != scope) {
    if (absl::Now() > deadline) {
      Log(Severity::kWarning, "was started by a node of %s, and has not got to %s", service.unit,
          scope);
      return;
    }
    absl::SleepFor(kPollPause);
  }
  Log(Severity::kNotice, "was started by a node of %s, and has left it for %s", service.unit,
      scope);
}

}  // namespace evermap
