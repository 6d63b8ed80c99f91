#include "daemon/command/settings.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "daemon/command/options.h"
#include "daemon/names/reservations.h"
#include "daemon/wire/protocol.h"
#include "registry/activity.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr std::string_view kLoopback4 = "127.0.0.1";
constexpr std::string_view kLoopback6 = "::1";
constexpr std::string_view kAny4 = "0.0.0.0";
constexpr std::string_view kAny6 = "::";
constexpr std::string_view kAutoWord = "auto";  // of loop, beside the words of the kinds
constexpr std::string_view kSeparators = ", ";  // of lists, as with the stock epmd

absl::StatusOr<uint32_t> ParseNumber(const Setting& self, std::string_view source,
                                     std::string_view text) {
  uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(text.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end || number < self.min || number > self.max) {
    return absl::InvalidArgumentError(absl::StrFormat("%s takes a number from %d to %d, not %s",
                                                      source, self.min, self.max, Quote(text)));
  }
  return number;
}

template <auto kMember>
absl::Status SetNumber(const Setting& self, std::string_view source, std::string_view text,
                       Options& options) {
  const absl::StatusOr<uint32_t> number = ParseNumber(self, source, text);
  using Type = std::remove_reference_t<decltype(options.*kMember)>;
  if (number.ok()) options.*kMember = static_cast<Type>(*number);
  return number.status();
}

template <auto kMember>
absl::Status SetSeconds(const Setting& self, std::string_view source, std::string_view text,
                        Options& options) {
  const absl::StatusOr<uint32_t> seconds = ParseNumber(self, source, text);
  if (seconds.ok()) options.*kMember = absl::Seconds(*seconds);
  return seconds.status();
}

template <auto kMember>
absl::Status SetFlag(const Setting&, std::string_view source, std::string_view text,
                     Options& options) {
  if (text != "true" && text != "false") {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s takes true or false, not %s", source, Quote(text)));
  }
  options.*kMember = text == "true";
  return absl::OkStatus();
}

template <auto kMember>
absl::Status SetPath(const Setting&, std::string_view source, std::string_view text,
                     Options& options) {
  if (text.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s takes the path of a file", source));
  }
  options.*kMember = std::string(text);
  return absl::OkStatus();
}

absl::Status SetLoop(const Setting&, std::string_view source, std::string_view text,
                     Options& options) {
  std::string words(kAutoWord);
  if (text == kAutoWord) {
    options.loop = std::nullopt;
    return absl::OkStatus();
  }
  for (const LoopKindRow& row : kLoopKinds) {
    if (text == row.word) {
      options.loop = row.kind;
      return absl::OkStatus();
    }
    words += row.kind == kLoopKinds.back().kind ? " or " : ", ";
    words += row.word;
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("%s takes %s, not %s", source, words, Quote(text)));
}

// Takes the next entry off a list; empty at its end.
std::string_view TakeEntry(std::string_view& list) {
  list.remove_prefix(std::min(list.find_first_not_of(kSeparators), list.size()));
  const std::string_view entry = list.substr(0, list.find_first_of(kSeparators));
  list.remove_prefix(entry.size());
  return entry;
}

// `text` in the spelling of inet_ntop(3), so that equal addresses are equal strings; nothing when
// it is no IP address.
std::optional<std::string> CanonicalAddress(const std::string& text) {
  const int family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
  std::array<std::byte, sizeof(in6_addr)> address;
  std::array<char, INET6_ADDRSTRLEN> canonical;
  if (inet_pton(family, text.c_str(), address.data()) != 1 ||
      inet_ntop(family, address.data(), canonical.data(), canonical.size()) == nullptr) {
    return std::nullopt;
  }
  return std::string(canonical.data());
}

bool IsSameFamily(std::string_view a, std::string_view b) {
  return (a.find(':') == std::string_view::npos) == (b.find(':') == std::string_view::npos);
}

bool Contains(const std::vector<std::string>& addresses, std::string_view address) {
  return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
}

// Removes all other addresses of the family of `any`, if that is in the list: beside them, bind(2)
// of the "any" address would fail with EADDRINUSE.
void LetAnyStandForItsFamily(std::string_view any, std::vector<std::string>& addresses) {
  if (!Contains(addresses, any)) return;
  std::erase_if(addresses, [any](const std::string& address) {
    return address != any && IsSameFamily(address, any);
  });
}

absl::Status SetAddresses(const Setting&, std::string_view source, std::string_view list,
                          Options& options) {
  std::vector<std::string>& addresses = options.addresses;
  addresses.clear();
  for (std::string_view entry = TakeEntry(list); !entry.empty(); entry = TakeEntry(list)) {
    const std::string text(entry);
    std::optional<std::string> address = CanonicalAddress(text);
    if (!address.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s takes IP addresses separated by commas, and %s is none; host names "
                          "are not looked up",
                          source, Quote(text)));
    }
    if (!Contains(addresses, *address)) addresses.push_back(*std::move(address));
  }
  if (addresses.empty()) return absl::OkStatus();
  for (const std::string_view loopback : {kLoopback4, kLoopback6}) {
    if (!Contains(addresses, loopback)) addresses.emplace_back(loopback);
  }
  LetAnyStandForItsFamily(kAny4, addresses);
  LetAnyStandForItsFamily(kAny6, addresses);
  if (addresses.size() > kAddressesMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s takes at most %d addresses, loopback included; leave it out to listen "
                        "on all addresses of this host",
                        source, kAddressesMax));
  }
  return absl::OkStatus();
}

// How many networks and users the options name, of which each costs a comparison.
size_t OriginCount(const Options& options) {
  size_t count = options.allowed.size();
  for (const AccessRule& rule : options.access) {
    count += rule.origins.networks.size() + rule.origins.users.size();
  }
  return count;
}

absl::Status CheckOriginCount(std::string_view source, const Options& options) {
  if (OriginCount(options) <= kOriginsMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: of allow and access together there are more networks and users than %d",
                      source, kOriginsMax));
}

absl::Status AddAllowed(const Setting&, std::string_view source, std::string_view list,
                        Options& options) {
  for (std::string_view text = TakeEntry(list); !text.empty(); text = TakeEntry(list)) {
    const std::optional<Network> network = Network::Parse(text);
    if (!network.has_value()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s takes networks separated by commas, as 192.0.2.0/24 or 2001:db8::/32, with no bits "
          "set beyond the prefix, and %s is none",
          source, Quote(text)));
    }
    options.allowed.push_back(*network);
  }
  if (options.allowed.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s needs a network, as 192.0.2.0/24; this host itself is always allowed, "
                        "127.0.0.0/8 allows nobody else",
                        source));
  }
  return CheckOriginCount(source, options);
}

absl::Status AddAccess(const Setting&, std::string_view source, std::string_view text,
                       Options& options) {
  absl::StatusOr<std::vector<AccessRule>> rules = ParseAccess(source, text);
  if (!rules.ok()) return rules.status();
  for (AccessRule& rule : *rules) options.access.push_back(std::move(rule));
  return CheckOriginCount(source, options);
}

absl::Status AddReservation(const Setting&, std::string_view source, std::string_view text,
                            Options& options) {
  if (!text.starts_with('@')) {
    if (const auto reservation = ParseReservation(source, text); !reservation.ok()) {
      return reservation.status();
    }
  }
  options.reservations.push_back({std::string(source), std::string(text)});
  return absl::OkStatus();
}

absl::Status AddExpected(const Setting&, std::string_view source, std::string_view list,
                         Options& options) {
  size_t bytes = 0;
  for (std::string_view entry = TakeEntry(list); !entry.empty(); entry = TakeEntry(list)) {
    if (entry.size() > protocol::kNameSizeMax || HasControls(entry) ||
        entry.find('@') != std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s takes names of nodes separated by commas, each the part before the @, and %s is none",
          source, Quote(entry)));
    }
    if (!Contains(options.expected, entry)) options.expected.emplace_back(entry);
  }
  for (const std::string& name : options.expected) bytes += name.size() + 1;
  if (options.expected.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s needs the name of a node, the part before the @", source));
  }
  if (options.expected.size() > kExpectedMax || bytes > kExpectedBytesMax) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s takes at most %d names, of %d bytes in all", source, kExpectedMax, kExpectedBytesMax));
  }
  return absl::OkStatus();
}

constexpr bool kIsList = true;

constexpr Setting kSettings[] = {
    {kPortName, "N", 1, kPortMax, "4369", !kIsList, Effect::kStart, SetNumber<&Options::port>,
     "listen on this TCP port (default 4369)"},
    {kAddressName, "IP[,IP...]", 0, 0, "all", !kIsList, Effect::kStart, SetAddresses,
     "listen on these addresses and on loopback only (default: on all)"},
    {kAllowName, "NETWORK[,...]", 0, 0, "all", kIsList, Effect::kReload, AddAllowed,
     "of other hosts, serve only those in these networks, as 192.0.2.0/24 or\n"
     "2001:db8::/32; add more with more -allow (default: all)"},
    {kAccessName, "RULE", 0, 0, "as the stock epmd", kIsList, Effect::kReload, AddAccess,
     "who may ask for what, as 'list from host' or 'register from user:bob';\n"
     "add more with more -access; see epmd.conf(5)"},
    {"reserve", "NAME=USER", 0, 0, "none", kIsList, Effect::kReload, AddReservation,
     "let only this user of this host register a node of this name; add more\n"
     "with more -reserve, or with -reserve @FILE, one a line"},
    {"expect", "NAME[,...]", 0, 0, "none", kIsList, Effect::kUpgrade, AddExpected,
     "nodes that should be registered here: status, watch and the exporter say\n"
     "which are missing; add more with more -expect"},
    {kRelaxedName, "", 0, 0, "false", !kIsList, Effect::kReload,
     SetFlag<&Options::relaxed_command_check>,
     "let -kill work while nodes are registered, and -stop at all"},
    {"packet_timeout", "SECONDS", 1, kPacketTimeoutSecondsMax, "60", !kIsList, Effect::kReload,
     SetSeconds<&Options::packet_timeout>,
     "close connections that make no whole request in time (default 60)"},
    {"orphan_grace", "SECONDS", 1, kOrphanGraceSecondsMax, "60", !kIsList, Effect::kUpgrade,
     SetSeconds<&Options::orphan_grace>,
     "keep nodes whose connection was lost with the mapper, and of which it\n"
     "cannot be told whether they live, for so long (default 60)"},
    {"name_wait", "SECONDS", 1, kNameWaitSecondsMax, "none", !kIsList, Effect::kReload,
     SetSeconds<&Options::name_wait>,
     "let a node wait for so long for its name while another one has it, as one\n"
     "that is just ending (default: refuse it at once)"},
    {"idle_exit", "SECONDS", 1, kIdleExitSecondsMax, "never", !kIsList, Effect::kReload,
     SetSeconds<&Options::idle_exit>,
     "end when no node has been registered for so long (default: never)"},
    {"delay_accept", "SECONDS", 1, kDelaySecondsMax, "none", !kIsList, Effect::kReload,
     SetSeconds<&Options::delay_accept>,
     "wait before each connection is accepted: a busy mapper, for tests"},
    {"delay_write", "SECONDS", 1, kDelaySecondsMax, "none", !kIsList, Effect::kReload,
     SetSeconds<&Options::delay_write>, "wait before each reply, likewise"},
    {kDebugName, "N", 0, kDebugMax, "0", !kIsList, Effect::kReload,
     SetNumber<&Options::debug_level>,
     "log registrations; twice: requests; three times: connections"},
    {"loop", "KIND", 0, 0, "auto", !kIsList, Effect::kUpgrade, SetLoop,
     "auto (default), io_uring or epoll"},
    {"workers", "N", 1, kWorkersMax, "one per core", !kIsList, Effect::kUpgrade,
     SetNumber<&Options::workers>, "threads that serve (default: one per core)"},
    {"no_keeper", "", 0, 0, "false", !kIsList, Effect::kStart, SetFlag<&Options::no_keeper>,
     "start no process that keeps connections over a crash of this one\n"
     "(where systemd does, with NOTIFY_SOCKET, there is none anyway)"},
    {"pidfile", "PATH", 0, 0, "none", !kIsList, Effect::kStart, SetPath<&Options::pid_file>,
     "write the id of the process to send signals to into this file, and\n"
     "remove it at the end"},
    {"registry", "PATH", 0, 0, "by port", !kIsList, Effect::kStart,
     SetPath<&Options::registry_path>,
     "file that keeps the registered nodes over restarts (default: in\n"
     "$RUNTIME_DIRECTORY; else /run/evermap for root; else\n"
     "$XDG_RUNTIME_DIR/epmd; else /dev/shm/epmd-UID)"},
    {"capacity", "N", 1, kRegistryCapacityMax, "65536", !kIsList, Effect::kStart,
     SetNumber<&Options::capacity>, "names that a new registry file has room for (default 65536)"},
};

}  // namespace

absl::Span<const Setting> Settings() { return kSettings; }

const Setting* SettingOf(std::string_view name) {
  for (const Setting& setting : kSettings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

std::string GivenSetting::Source() const {
  return origin == Origin::kFile ? absl::StrCat(place, ": ", std::string(setting->name)) : place;
}

std::string Setting::option() const { return "-" + std::string(name); }

std::string Setting::variable() const {
  std::string variable = "ERL_EPMD_";
  for (const char c : name) {
    variable += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return variable;
}

std::string_view OriginText(Origin origin) {
  switch (origin) {
    case Origin::kOption:
      return "option";
    case Origin::kEnvironment:
      return "environment";
    case Origin::kFile:
      return "file";
    case Origin::kDefault:
      break;
  }
  return "default";
}

}  // namespace evermap
