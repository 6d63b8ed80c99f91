#include "daemon/command/options.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "registry/activity.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr std::string_view kLoopback4 = "127.0.0.1";
constexpr std::string_view kLoopback6 = "::1";
constexpr std::string_view kAny4 = "0.0.0.0";
constexpr std::string_view kAny6 = "::";
constexpr std::string_view kAutoWord = "auto";  // of -loop, beside the words of the kinds

// `text` as a number from 1 to `max`. `source`, here and below, is the option or the variable that
// the text comes from.
absl::StatusOr<uint32_t> ParseNumber(std::string_view source, std::string_view text, uint32_t max) {
  uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const std::from_chars_result result = std::from_chars(text.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end || number < 1 || number > max) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s takes a number from 1 to %d, not %s", source, max, Quote(text)));
  }
  return number;
}

absl::Status ParsePort(std::string_view source, std::string_view text, Options& options) {
  const absl::StatusOr<uint32_t> port = ParseNumber(source, text, kPortMax);
  if (port.ok()) options.port = static_cast<uint16_t>(*port);
  return port.status();
}

absl::Status ParseSeconds(std::string_view source, std::string_view text, uint32_t max,
                          absl::Duration& duration) {
  const absl::StatusOr<uint32_t> seconds = ParseNumber(source, text, max);
  if (seconds.ok()) duration = absl::Seconds(*seconds);
  return seconds.status();
}

absl::Status ParseLoop(std::string_view source, std::string_view text, Options& options) {
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

// Replaces options.addresses. The list is separated by commas, blanks or both, as with the stock
// epmd.
absl::Status ParseAddresses(std::string_view source, std::string_view list, Options& options) {
  constexpr std::string_view kSeparators = ", ";
  std::vector<std::string>& addresses = options.addresses;
  addresses.clear();
  for (size_t begin = list.find_first_not_of(kSeparators); begin != std::string_view::npos;
       begin = list.find_first_not_of(kSeparators)) {
    list.remove_prefix(begin);
    const std::string text(list.substr(0, list.find_first_of(kSeparators)));
    list.remove_prefix(text.size());
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

// Adds to options.allowed. The list is separated likewise.
absl::Status ParseAllowed(std::string_view source, std::string_view list, Options& options) {
  constexpr std::string_view kSeparators = ", ";
  for (size_t begin = list.find_first_not_of(kSeparators); begin != std::string_view::npos;
       begin = list.find_first_not_of(kSeparators)) {
    list.remove_prefix(begin);
    const std::string_view text = list.substr(0, list.find_first_of(kSeparators));
    list.remove_prefix(text.size());
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
  if (options.allowed.size() > kAllowedMax) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s takes at most %d networks in all", source, kAllowedMax));
  }
  return absl::OkStatus();
}

// Adds to options.expected. The list is separated likewise.
absl::Status ParseExpected(std::string_view source, std::string_view list, Options& options) {
  constexpr std::string_view kSeparators = ", ";
  size_t bytes = 0;
  for (size_t begin = list.find_first_not_of(kSeparators); begin != std::string_view::npos;
       begin = list.find_first_not_of(kSeparators)) {
    list.remove_prefix(begin);
    const std::string name(list.substr(0, list.find_first_of(kSeparators)));
    list.remove_prefix(name.size());
    if (name.size() > protocol::kNameSizeMax || HasControls(name) ||
        name.find('@') != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s takes names of nodes separated by commas, each the part before the @, and %s is none",
          source, Quote(name)));
    }
    if (!Contains(options.expected, name)) options.expected.push_back(name);
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

// Goes through the arguments from left to right.
class ArgumentParser {
 public:
  ArgumentParser(absl::Span<const char* const> args, Options& options)
      : args_(args), options_(options) {}

  absl::Status Parse() {
    while (!args_.empty() && !asked_to_tell_) {
      if (absl::Status status = ParseOne(Take()); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  bool has_port() const { return has_port_; }
  // The value of the last -address. The caller parses it, since it counts only for a server.
  const std::optional<std::string_view>& address_list() const { return address_list_; }

 private:
  std::string_view Take() {
    const std::string_view arg = args_.front();
    args_.remove_prefix(1);
    return arg;
  }

  absl::Status ParseOne(std::string_view arg) {
    if (ParseFlag(arg)) return absl::OkStatus();
    if (const std::optional<Command> command = ToCommand(arg); command.has_value()) {
      return ParseCommand(arg, *command);
    }
    if (!TakesValue(arg)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("unknown option %s; see epmd -help", Quote(arg)));
    }
    if (args_.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat("%s needs a value; see epmd -help", arg));
    }
    return ParseValue(arg, Take());
  }

  bool ParseFlag(std::string_view arg) {
    if (arg == "-d" || arg == "-debug") {
      ++options_.debug_level;
    } else if (arg == "-daemon") {
      options_.daemon = true;
    } else if (arg == "-systemd") {
      options_.systemd = true;
    } else if (arg == "-relaxed_command_check") {
      options_.relaxed_command_check = true;
    } else if (arg == "-no_keeper") {
      options_.no_keeper = true;
    } else if (arg == "-help" || arg == "--help") {
      options_.command = Command::kHelp;
      asked_to_tell_ = true;
    } else if (arg == "-version" || arg == "--version") {
      options_.command = Command::kVersion;
      asked_to_tell_ = true;
    } else {
      return false;
    }
    return true;
  }

  static std::optional<Command> ToCommand(std::string_view arg) {
    if (arg == "-names") return Command::kNames;
    if (arg == "-started") return Command::kStarted;
    if (arg == "-dump") return Command::kDump;
    if (arg == "-kill") return Command::kKill;
    if (arg == "-stop") return Command::kStop;
    return std::nullopt;
  }

  absl::Status ParseCommand(std::string_view arg, Command command) {
    options_.command = command;
    if (command == Command::kStop) {
      if (args_.empty()) {
        return absl::InvalidArgumentError("-stop needs the name of a node; see epmd -help");
      }
      options_.stop_name = std::string(Take());
    }
    if (!args_.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s after %s: the command comes last; see epmd -help", Quote(args_.front()), arg));
    }
    return absl::OkStatus();
  }

  static bool TakesValue(std::string_view arg) {
    constexpr std::array<std::string_view, 15> kWithValue = {
        "-port",         "-address",   "-allow",    "-reserve",      "-packet_timeout",
        "-orphan_grace", "-name_wait", "-expect",   "-delay_accept", "-delay_write",
        "-loop",         "-workers",   "-registry", "-capacity",     "-pidfile",
    };
    return std::find(kWithValue.begin(), kWithValue.end(), arg) != kWithValue.end();
  }

  absl::Status ParseValue(std::string_view option, std::string_view value) {
    assert(TakesValue(option));
    if (option == "-port") {
      has_port_ = true;
      return ParsePort(option, value, options_);
    }
    if (option == "-address") {
      address_list_ = value;
      return absl::OkStatus();
    }
    if (option == "-allow") return ParseAllowed(option, value, options_);
    if (option == "-reserve") {
      options_.reservations.emplace_back(value);
      return absl::OkStatus();
    }
    if (option == "-packet_timeout") {
      return ParseSeconds(option, value, kPacketTimeoutSecondsMax, options_.packet_timeout);
    }
    if (option == "-orphan_grace") {
      return ParseSeconds(option, value, kOrphanGraceSecondsMax, options_.orphan_grace);
    }
    if (option == "-expect") return ParseExpected(option, value, options_);
    if (option == "-name_wait") {
      return ParseSeconds(option, value, kNameWaitSecondsMax, options_.name_wait);
    }
    if (option == "-delay_accept") {
      return ParseSeconds(option, value, kDelaySecondsMax, options_.delay_accept);
    }
    if (option == "-delay_write") {
      return ParseSeconds(option, value, kDelaySecondsMax, options_.delay_write);
    }
    if (option == "-loop") return ParseLoop(option, value, options_);
    if (option == "-registry") {
      if (value.empty()) return absl::InvalidArgumentError("-registry takes the path of a file");
      options_.registry_path = std::string(value);
      return absl::OkStatus();
    }
    if (option == "-pidfile") {
      if (value.empty()) return absl::InvalidArgumentError("-pidfile takes the path of a file");
      options_.pid_file = std::string(value);
      return absl::OkStatus();
    }
    const bool is_workers = option == "-workers";
    assert(is_workers || option == "-capacity");
    const absl::StatusOr<uint32_t> number =
        ParseNumber(option, value, is_workers ? kWorkersMax : kRegistryCapacityMax);
    if (number.ok()) (is_workers ? options_.workers : options_.capacity) = *number;
    return number.status();
  }

  absl::Span<const char* const> args_;
  Options& options_;
  bool has_port_ = false;
  bool asked_to_tell_ = false;  // -help or -version was given: what follows does not matter
  std::optional<std::string_view> address_list_;
};

}  // namespace

absl::StatusOr<Options> ParseOptions(absl::Span<const char* const> args,
                                     absl::FunctionRef<const char*(const char*)> environment) {
  // The value of a variable; empty when it is not set.
  const auto variable = [&environment](const char* name) {
    const char* const value = environment(name);
    return value == nullptr ? std::string_view() : std::string_view(value);
  };

  Options options;
  ArgumentParser parser(args, options);
  if (absl::Status status = parser.Parse(); !status.ok()) return status;
  if (options.command == Command::kHelp || options.command == Command::kVersion) return options;

  options.relaxed_command_check |= environment(kRelaxedVariable) != nullptr;
  if (const std::string_view port = variable(kPortVariable); !parser.has_port() && !port.empty()) {
    if (absl::Status status = ParsePort(kPortVariable, port, options); !status.ok()) return status;
  }
  // Only a server reads the addresses: a command connects to loopback, and works also where they
  // make no sense.
  if (options.command == Command::kServe) {
    const absl::Status status =
        parser.address_list().has_value()
            ? ParseAddresses("-address", *parser.address_list(), options)
            : ParseAddresses(kAddressVariable, variable(kAddressVariable), options);
    if (!status.ok()) return status;
  }
  return options;
}

std::string_view VersionText() { return "epmd (Evermap) " EVERMAP_VERSION "\n"; }

std::string_view UsageText() {
  return R"(usage: epmd [OPTION...]                    serve as the Erlang port mapper of this host
       epmd [-d...] [-port N] COMMAND      ask the port mapper that runs

Serving
  -port N                  listen on this TCP port (default 4369)
  -address IP[,IP...]      listen on these addresses and on loopback only (default: on all)
  -allow NETWORK[,...]     of other hosts, serve only those in these networks, as 192.0.2.0/24 or
                           2001:db8::/32; add more with more -allow (default: all)
  -reserve NAME=USER       let only this user of this host register a node of this name; add more
                           with more -reserve, or with -reserve @FILE, one a line
  -expect NAME[,...]       nodes that should be registered here: status, watch and the exporter say
                           which are missing; add more with more -expect
  -systemd                 listen on the sockets that systemd passes
  -daemon                  detach; return when connections are accepted; log to syslog
  -pidfile PATH            write the id of the process to send signals to into this file, and
                           remove it at the end
  -no_keeper               start no process that keeps connections over a crash of this one
                           (where systemd does, with NOTIFY_SOCKET, there is none anyway)
  -relaxed_command_check   let -kill work while nodes are registered, and -stop at all
  -d, -debug               log registrations; twice: requests; three times: connections
  -packet_timeout SECONDS  close connections that make no whole request in time (default 60)
  -orphan_grace SECONDS    keep nodes whose connection was lost with the mapper, and of which it
                           cannot be told whether they live, for so long (default 60)
  -name_wait SECONDS       let a node wait for so long for its name while another one has it, as one
                           that is just ending (default: refuse it at once)
  -delay_accept SECONDS    wait before each connection is accepted: a busy mapper, for tests
  -delay_write SECONDS     wait before each reply, likewise
  -loop KIND               auto (default), io_uring or epoll
  -workers N               threads that serve (default: one per core)
  -registry PATH           file that keeps the registered nodes over restarts (default: in
                           $RUNTIME_DIRECTORY; else /run/evermap for root; else
                           $XDG_RUNTIME_DIR/epmd; else /dev/shm/epmd-UID)
  -capacity N              names that a new registry file has room for (default 65536)

Commands, each the last on the command line
  -names                   list the registered nodes and their ports
  -started                 say by the exit code, 0 or 1, whether a port mapper runs
  -dump                    list registered and former nodes with what is known of them
  -kill                    end the port mapper
  -stop NAME               unregister a node by force
  -help, -version          tell and exit

Environment, where the option is not given
  ERL_EPMD_PORT                    as -port
  ERL_EPMD_ADDRESS                 as -address
  ERL_EPMD_RELAXED_COMMAND_CHECK   set to anything: as -relaxed_command_check
)";
}

}  // namespace evermap
