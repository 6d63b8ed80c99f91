#include "daemon/mapper/configuration.h"

#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "daemon/host/address.h"
#include "daemon/host/log.h"
#include "registry/base/clock.h"
#include "registry/base/text.h"
#include "registry/location.h"

namespace evermap {
namespace {

constexpr char kSocketWord[] = "socket";
constexpr char kThisHostAlone[] = "connect from host";

const char* Variable(const char* name) { return getenv(name); }

// The arguments without the program's name, as main() has them.
std::vector<const char*> Pointers(const std::vector<std::string>& arguments) {
  std::vector<const char*> pointers;
  for (size_t i = 1; i < arguments.size(); ++i) pointers.push_back(arguments[i].c_str());
  return pointers;
}

absl::Status Refusal(const std::vector<std::string>& problems) {
  assert(!problems.empty());
  const size_t more = problems.size() - 1;
  return absl::FailedPreconditionError(
      more == 0 ? problems[0] : absl::StrCat(problems[0], " (and ", more, " more: epmd -check)"));
}

std::vector<GivenSetting> GivenOf(const Options& options, const Setting& setting) {
  std::vector<GivenSetting> given;
  for (const GivenSetting& one : options.given) {
    if (one.setting == &setting) given.push_back(one);
  }
  return given;
}

bool AreSame(const std::vector<GivenSetting>& a, const std::vector<GivenSetting>& b) {
  return std::equal(
      a.begin(), a.end(), b.begin(), b.end(),
      [](const GivenSetting& one, const GivenSetting& other) { return one.text == other.text; });
}

std::string PlaceOf(const GivenSetting& given) {
  return given.place.empty() ? "default" : given.place;
}

std::string_view CountsWhen(const Setting& setting, bool has_passed_sockets) {
  if (has_passed_sockets && (setting.name == kPortName || setting.name == kAddressName)) {
    return "has no effect: the sockets are passed by systemd; change ListenStream= in epmd.socket";
  }
  return setting.effect == Effect::kStart
             ? "counts when the mapper is started anew (systemctl stop, then start), not before"
             : "counts with the next upgrade (systemctl reload, epmdctl upgrade), not before";
}

// The values of one setting, and where the last of them stands.
std::string TextOf(const std::vector<GivenSetting>& given) {
  const std::string values = absl::StrJoin(
      given, ",", [](std::string* out, const GivenSetting& one) { out->append(one.text); });
  return absl::StrCat(std::string(given.back().setting->name), " = ", values, " (",
                      PlaceOf(given.back()), ")");
}

// When a file was last written to; 0 when that cannot be told.
int64_t ChangedUnixNs(const std::string& path) {
  struct stat file = {};
  return stat(path.c_str(), &file) == 0 ? NsOf(file.st_mtim) : 0;
}

// The settings of files that a mapper has noted.
std::vector<GivenSetting> OfFiles(const SettingsNote& note) {
  std::vector<GivenSetting> settings;
  for (const SettingsNote::Setting& noted : note.settings) {
    const Setting* const setting = SettingOf(noted.name);
    if (setting == nullptr || noted.origin != OriginText(Origin::kFile)) continue;
    settings.push_back({setting, noted.value, Origin::kFile, noted.place});
  }
  return settings;
}

uint64_t NotedReloads(const std::string& registry_path) {
  SettingsNote note;
  std::string error;
  return ReadSettingsNote(registry_path, note, error, NoteOf::kNobodyElse) ? note.reloads : 0;
}

FoundUsers::Numbers NumbersOf(const SettingsNote& note) {
  FoundUsers::Numbers numbers;
  for (const SettingsNote::User& user : note.users) numbers.emplace(user.name, user.uid);
  return numbers;
}

// The addresses of listening sockets, as inet_ntop(3) writes them.
std::vector<std::string> AddressesOf(absl::Span<const int> listeners) {
  std::vector<std::string> addresses;
  for (const int fd : listeners) addresses.push_back(AddressText(OwnAddress(fd)));
  return addresses;
}

}  // namespace

Configuration::Configuration(Options options, const std::vector<std::string>& arguments)
    : options_(std::move(options)), arguments_(arguments) {}

ServeOptions Configuration::serve_options() const {
  return {.port = options_.port,
          .packet_timeout_ms = absl::ToInt64Milliseconds(options_.packet_timeout),
          .delay_accept = options_.delay_accept,
          .delay_write = options_.delay_write,
          .name_wait = options_.name_wait,
          .relaxed_command_check = options_.relaxed_command_check,
          .rights = granted_.rights};
}

void Configuration::Warn(std::string line) {
  Log(Severity::kWarning, "%s", line);
  warnings_.push_back(std::move(line));
}

absl::Status Configuration::Settle(bool has_earlier) {
  const std::vector<std::string> problems = options_.files.problems;
  if (!problems.empty() && !has_earlier) return Refusal(problems);
  const std::vector<std::string> warnings = options_.warnings;
  for (const std::string& problem : problems) Warn(problem);
  const std::optional<SettingsNote> earlier = has_earlier ? EarlierNote() : std::nullopt;
  if (earlier.has_value()) users_ = FoundUsers(NumbersOf(*earlier));
  if (!problems.empty()) GoOnWithoutFiles(earlier);
  granted_ = FindGranted(options_, users_);
  if (!granted_.problems.empty() && !has_earlier) return Refusal(granted_.problems);
  for (const std::string& warning : warnings) Warn(warning);
  for (const std::string& problem : granted_.problems) {
    Warn(problem + "; what it gives is refused to all until the mapper is told anew");
  }
  if (granted_.reservations.HasUntold()) {
    Warn(
        "which names are reserved is not known: only nodes whose names are known to be theirs may "
        "register until it is: epmdctl reload");
  }
  return absl::OkStatus();
}

absl::StatusOr<Options> Configuration::Parse(absl::Span<const GivenSetting> from_files) const {
  const std::vector<const char*> arguments = Pointers(arguments_);
  absl::StatusOr<Options> options = ParseOptions(arguments, Variable, from_files);
  // The sockets' port does not change.
  if (options.ok()) {
    options->port = options_.port;
    options->is_port_of_sockets = options_.is_port_of_sockets;
  }
  return options;
}

void Configuration::GoOnWithoutFiles(const std::optional<SettingsNote>& earlier) {
  if (earlier.has_value()) {
    absl::StatusOr<Options> options = Parse(OfFiles(*earlier));
    if (options.ok()) {
      options->files = std::move(options_.files);
      options_ = *std::move(options);
      Warn(
          "the files of settings are wrong, and what counted before goes on until they are right: "
          "epmdctl reload");
      return;
    }
  }
  const Setting& access = *SettingOf(kAccessName);
  // What is right of the rules must not let in whom a wrong one was to keep out.
  std::erase_if(options_.given, [&](const GivenSetting& given) {
    return given.setting == &access || given.setting->name == kAllowName;
  });
  options_.allowed.clear();
  options_.access.clear();
  options_.given.push_back({&access, kThisHostAlone, Origin::kFile, options_.config_path + ":?"});
  [[maybe_unused]] const absl::Status applied =
      access.apply(access, kAccessName, kThisHostAlone, options_);
  assert(applied.ok());
  Warn(
      "the files of settings are wrong, and what counted before is not known: only this host is "
      "served until they are right: epmdctl reload");
}

std::optional<SettingsNote> Configuration::EarlierNote() const {
  const std::vector<std::string> paths =
      options_.registry_path.empty()
          ? std::vector<std::string>{DefaultRegistryPath(options_.port),
                                     NamespaceRegistryPath(options_.port)}
          : std::vector<std::string>{options_.registry_path};
  SettingsNote note;
  std::string error;
  for (const std::string& path : paths) {
    if (ReadSettingsNote(path, note, error, NoteOf::kNobodyElse)) return note;
  }
  return std::nullopt;
}

void Configuration::CheckInherited(absl::Span<const int> listeners) {
  const std::vector<std::string> there = AddressesOf(listeners);
  for (const GivenSetting& given : options_.given) {
    if (given.origin == Origin::kDefault) continue;
    if (given.setting->name == kPortName && options_.is_port_of_sockets) {
      Warn(absl::StrCat("port ", given.text, " (", given.place,
                        ") has no effect: the sockets that were passed listen on port ",
                        options_.port, "; change ListenStream= in epmd.socket, too"));
    }
    if (given.setting->name != kAddressName) continue;
    for (const std::string& address : options_.addresses) {
      const bool is_loopback = address == "127.0.0.1" || address == "::1";
      if (is_loopback || std::find(there.begin(), there.end(), address) != there.end()) continue;
      Warn(absl::StrCat("address ", address, " (", given.place,
                        ") has no effect: the sockets that were passed listen on ",
                        absl::StrJoin(there, ", "), "; change ListenStream= in epmd.socket"));
    }
  }
}

absl::Status Configuration::Read() {
  const std::vector<const char*> arguments = Pointers(arguments_);
  // What has changed is told, also of settings that do not change any more.
  const auto variable = [](const char* name) {
    return std::string_view(name) == kStartedWithVariable ? nullptr : getenv(name);
  };
  absl::StatusOr<Options> read = ReadOptions(arguments, variable);
  if (!read.ok()) return read.status();
  if (!read->files.problems.empty()) return Refusal(read->files.problems);
  // Of what counts later the old values stay.
  std::vector<GivenSetting> given;
  std::vector<std::string> warnings = read->warnings;
  Options merged = options_;
  for (const Setting& setting : Settings()) {
    const std::vector<GivenSetting> now = GivenOf(options_, setting);
    std::vector<GivenSetting> wanted = GivenOf(*read, setting);
    if (setting.effect != Effect::kReload && !AreSame(now, wanted)) {
      warnings.push_back(
          absl::StrCat(TextOf(wanted), " ", std::string(CountsWhen(setting, options_.systemd))));
      wanted = now;
    }
    std::move(wanted.begin(), wanted.end(), std::back_inserter(given));
  }
  merged.allowed = read->allowed;
  merged.access = read->access;
  merged.reservations = read->reservations;
  merged.relaxed_command_check = read->relaxed_command_check;
  merged.packet_timeout = read->packet_timeout;
  merged.name_wait = read->name_wait;
  merged.idle_exit = read->idle_exit;
  merged.delay_accept = read->delay_accept;
  merged.delay_write = read->delay_write;
  merged.debug_level = read->debug_level;
  merged.given = std::move(given);
  merged.files = std::move(read->files);
  merged.warnings = std::move(warnings);
  read_users_ = FoundUsers();
  read_granted_ = FindGranted(merged, read_users_);
  if (!read_granted_.problems.empty()) return Refusal(read_granted_.problems);
  read_options_ = std::move(merged);
  return absl::OkStatus();
}

std::vector<std::string> Configuration::Take() {
  assert(read_options_.has_value());
  std::vector<std::string> changed;
  for (const Setting& setting : Settings()) {
    if (!AreSame(GivenOf(options_, setting), GivenOf(*read_options_, setting))) {
      changed.emplace_back(setting.name);
    }
  }
  options_ = *std::move(read_options_);
  read_options_.reset();
  granted_ = std::move(read_granted_);
  users_ = std::move(read_users_);
  warnings_.clear();
  for (const std::string& warning : options_.warnings) Warn(warning);
  return changed;
}

void Configuration::WriteNote(const std::string& registry_path) {
  Write(registry_path, NotedReloads(registry_path), "");
}

void Configuration::NoteReload(const std::string& registry_path, const std::string& refusal) {
  Write(registry_path, NotedReloads(registry_path) + 1, refusal);
}

void Configuration::Write(const std::string& registry_path, uint64_t reloads,
                          const std::string& refusal) {
  SettingsNote note = {.reloads = reloads,
                       .refusal = refusal,
                       .warnings = warnings_,
                       .settings = {},
                       .path = options_.config_path == kNoConfig ? "" : options_.config_path,
                       .files = {},
                       .users = {}};
  for (const GivenSetting& given : options_.given) {
    SettingsNote::Setting setting = {std::string(given.setting->name), given.text,
                                     std::string(OriginText(given.origin)), given.place};
    if (setting.name == kPortName && options_.is_port_of_sockets) {
      setting = {setting.name, absl::StrCat(options_.port), kSocketWord, ""};
    }
    note.settings.push_back(std::move(setting));
  }
  for (const SettingsFiles::File& file : options_.files.files) {
    note.files.push_back({file.path, file.changed_unix_ns});
  }
  for (const GivenReservation& given : options_.reservations) {
    if (!given.text.starts_with('@')) continue;
    note.files.push_back({given.text.substr(1), ChangedUnixNs(given.text.substr(1))});
  }
  for (const auto& [name, uid] : users_.numbers()) note.users.push_back({name, uid});
  const std::string complaint = WriteSettingsNote(registry_path, note);
  if (!complaint.empty()) {
    Log(Severity::kRegistrations, "epmdctl config has nothing to show: %s", complaint);
  }
}

}  // namespace evermap
