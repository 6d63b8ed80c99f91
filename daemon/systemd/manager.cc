#include "daemon/systemd/manager.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace evermap {
namespace {

constexpr char kManagerName[] = "org.freedesktop.systemd1";
constexpr char kManagerPath[] = "/org/freedesktop/systemd1";
constexpr char kManagerInterface[] = "org.freedesktop.systemd1.Manager";
constexpr char kPropertiesInterface[] = "org.freedesktop.DBus.Properties";
constexpr char kSystemBus[] = "/run/dbus/system_bus_socket";
constexpr char kSystemManager[] = "/run/systemd/private";
// Modes of a new job: it does not replace another; it is for this unit, whatever depends on that.
constexpr char kFail[] = "fail";
constexpr char kIgnoreDependencies[] = "ignore-dependencies";

absl::Status NotUnderstood(const std::string& what) {
  return absl::InternalError(absl::StrCat("the reply to ", what, " is not what was expected"));
}

// Begins a variant of this type, and an entry (sv) before it.
void BeginEntry(BusWriter& writer, std::string_view name, std::string_view type) {
  writer.Align(kBusStructAlignment);
  writer.String(name);
  writer.Signature(type);
}

}  // namespace

absl::StatusOr<SystemdManager> SystemdManager::Connect(bool of_user, absl::Duration timeout) {
  if (of_user) {
    return ConnectTo(absl::StrCat("/run/user/", geteuid(), "/systemd/private"), false, timeout);
  }
  // The manager's own socket works without a D-Bus, but only for the manager's user; systemctl does
  // the same.
  const bool is_bus = geteuid() != 0;
  return ConnectTo(is_bus ? kSystemBus : kSystemManager, is_bus, timeout);
}

absl::StatusOr<SystemdManager> SystemdManager::ConnectTo(const std::string& path, bool is_bus,
                                                         absl::Duration timeout) {
  absl::StatusOr<Bus> bus = Bus::Connect(path, timeout);
  if (!bus.ok()) return bus.status();
  if (is_bus) {
    const absl::StatusOr<BusMessage> greeted = bus->Call({.destination = "org.freedesktop.DBus",
                                                          .path = "/org/freedesktop/DBus",
                                                          .interface = "org.freedesktop.DBus",
                                                          .member = "Hello",
                                                          .signature = "",
                                                          .arguments = ""});
    if (!greeted.ok()) return greeted.status();
  }
  return SystemdManager(*std::move(bus));
}

absl::StatusOr<BusMessage> SystemdManager::Call(std::string_view member, std::string_view signature,
                                                const BusWriter& arguments) {
  return bus_.Call({.destination = kManagerName,
                    .path = kManagerPath,
                    .interface = kManagerInterface,
                    .member = member,
                    .signature = signature,
                    .arguments = arguments.bytes()});
}

absl::StatusOr<std::string> SystemdManager::LoadUnit(std::string_view unit) {
  BusWriter arguments;
  arguments.String(unit);
  const absl::StatusOr<BusMessage> reply = Call("LoadUnit", "s", arguments);
  if (!reply.ok()) return reply.status();
  BusReader reader(reply->body);
  const std::string_view path = reader.String();
  if (reply->signature != "o" || !reader.ok()) return NotUnderstood("LoadUnit");
  return std::string(path);
}

absl::StatusOr<BusMessage> SystemdManager::Property(std::string_view path,
                                                    std::string_view interface,
                                                    std::string_view property) {
  BusWriter arguments;
  arguments.String(interface);
  arguments.String(property);
  return bus_.Call({.destination = kManagerName,
                    .path = path,
                    .interface = kPropertiesInterface,
                    .member = "Get",
                    .signature = "ss",
                    .arguments = arguments.bytes()});
}

absl::StatusOr<std::string> SystemdManager::Text(std::string_view path, std::string_view interface,
                                                 std::string_view property) {
  const absl::StatusOr<BusMessage> reply = Property(path, interface, property);
  if (!reply.ok()) return reply.status();
  BusReader reader(reply->body);
  const bool is_text = reader.Signature() == "s";
  const std::string_view text = reader.String();
  if (!is_text || !reader.ok()) return NotUnderstood(std::string(property));
  return std::string(text);
}

absl::StatusOr<std::vector<std::string>> SystemdManager::Texts(std::string_view path,
                                                               std::string_view interface,
                                                               std::string_view property) {
  const absl::StatusOr<BusMessage> reply = Property(path, interface, property);
  if (!reply.ok()) return reply.status();
  BusReader reader(reply->body);
  if (reader.Signature() != "as") return NotUnderstood(std::string(property));
  std::vector<std::string> texts;
  const size_t end = reader.BeginArray(sizeof(uint32_t));
  while (reader.ok() && reader.position() < end) texts.emplace_back(reader.String());
  if (!reader.ok()) return NotUnderstood(std::string(property));
  return texts;
}

absl::StatusOr<std::string> SystemdManager::Job(std::string_view path) {
  const absl::StatusOr<BusMessage> reply = Property(path, kUnitInterface, "Job");
  if (!reply.ok()) return reply.status();
  BusReader reader(reply->body);
  const bool is_job = reader.Signature() == "(uo)";
  reader.Align(kBusStructAlignment);
  const uint32_t id = reader.Uint32();
  const std::string_view job = reader.String();
  if (!is_job || !reader.ok()) return NotUnderstood("Job");
  return std::string(id == 0 ? std::string_view() : job);
}

absl::StatusOr<uint64_t> SystemdManager::Number(std::string_view path, std::string_view interface,
                                                std::string_view property) {
  const absl::StatusOr<BusMessage> reply = Property(path, interface, property);
  if (!reply.ok()) return reply.status();
  BusReader reader(reply->body);
  const bool is_number = reader.Signature() == "t";
  const uint64_t number = reader.Uint64();
  if (!is_number || !reader.ok()) return NotUnderstood(std::string(property));
  return number;
}

absl::Status SystemdManager::StartUnit(std::string_view unit) {
  BusWriter arguments;
  arguments.String(unit);
  arguments.String(kFail);
  return Call("StartUnit", "ss", arguments).status();
}

absl::Status SystemdManager::RestartUnitAlone(std::string_view unit) {
  BusWriter arguments;
  arguments.String(unit);
  arguments.String(kIgnoreDependencies);
  return Call("RestartUnit", "ss", arguments).status();
}

absl::Status SystemdManager::StartScope(std::string_view scope, std::string_view description,
                                        pid_t pid) {
  BusWriter arguments;
  arguments.String(scope);
  arguments.String(kFail);
  const BusWriter::Array properties = arguments.BeginArray(kBusStructAlignment);
  BeginEntry(arguments, "Description", "s");
  arguments.String(description);
  BeginEntry(arguments, "PIDs", "au");
  const BusWriter::Array pids = arguments.BeginArray(sizeof(uint32_t));
  arguments.Uint32(static_cast<uint32_t>(pid));
  arguments.EndArray(pids);
  // Otherwise a scope that has failed stays until somebody resets it.
  BeginEntry(arguments, "CollectMode", "s");
  arguments.String("inactive-or-failed");
  arguments.EndArray(properties);
  // No units besides.
  arguments.EndArray(arguments.BeginArray(kBusStructAlignment));
  return Call("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments).status();
}

}  // namespace evermap
