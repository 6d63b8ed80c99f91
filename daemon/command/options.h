// The command line of the mapper: that of the stock epmd, and ours.
//
//   const auto environment = [](const char* name) -> const char* { return getenv(name); };
//   absl::StatusOr<Options> options =
//       ParseOptions(absl::MakeConstSpan(argv + 1, argc - 1), environment);
//   if (!options.ok()) { ... print options.status().message(), exit 1 ... }
//
// Pure: reads no file, resolves no name, prints nothing. As with the stock epmd options are read
// from left to right; a later one overrides an earlier one and the environment; and a command
// (-names, -started, -dump, -kill, -stop NAME) comes last. Only -allow, -reserve and -expect add
// to earlier ones.
#ifndef EVERMAP_DAEMON_COMMAND_OPTIONS_H_
#define EVERMAP_DAEMON_COMMAND_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/host/address.h"
#include "daemon/loop/loop_kind.h"
#include "daemon/wire/protocol.h"
#include "registry/counters.h"
#include "registry/registration.h"

namespace evermap {

// Largest values of the options. The smallest is 1 for each: the stock epmd refuses 0 as well for
// all options that it has.
inline constexpr uint32_t kPortMax = 65535;
inline constexpr uint32_t kPacketTimeoutSecondsMax = 1'000'000;
inline constexpr uint32_t kDelaySecondsMax = 3600;
inline constexpr uint32_t kOrphanGraceSecondsMax = 86'400;
inline constexpr uint32_t kNameWaitSecondsMax = 60;
// Each worker needs a block of counters in the registry.
inline constexpr uint32_t kWorkersMax = kStatisticsWorkersMax;
// Addresses to listen on, loopback included; well below the number of sockets that a loop can
// accept from.
inline constexpr size_t kAddressesMax = 32;
// Networks of -allow. Each new connection may be compared with all of them.
inline constexpr size_t kAllowedMax = 256;
// Names of -expect. Tools look at each of them.
inline constexpr size_t kExpectedMax = 256;

// Variables of the environment that count where the option is not given.
inline constexpr char kPortVariable[] = "ERL_EPMD_PORT";        // as -port
inline constexpr char kAddressVariable[] = "ERL_EPMD_ADDRESS";  // as -address
inline constexpr char kRelaxedVariable[] = "ERL_EPMD_RELAXED_COMMAND_CHECK";

enum class Command : uint8_t {
  kServe,
  // These ask a mapper that runs already (interactive.h).
  kNames,
  kStarted,
  kDump,
  kKill,
  kStop,
  kHelp,
  kVersion,
};

struct Options {
  Command command = Command::kServe;
  std::string stop_name;  // the node that kStop unregisters

  uint16_t port = protocol::kDefaultPort;
  // IP addresses to listen on, as inet_ntop(3) writes them, without duplicates; empty: all of this
  // host. When not empty, 127.0.0.1 and ::1 are among them; where the "any" address of a family was
  // given, it is the only one of that family. Each is to be bound by itself, those of IPv6 with
  // IPV6_V6ONLY; for a loopback address it is no error that the host lacks its protocol family.
  std::vector<std::string> addresses;
  bool systemd = false;    // listen on the sockets that systemd passes, and on no address
  bool daemon = false;     // detach
  bool no_keeper = false;  // start no keeper
  bool relaxed_command_check = false;
  // Networks of other hosts that may connect; empty: all.
  std::vector<Network> allowed;
  std::vector<std::string> expected;      // names of nodes that should be registered, each once
  std::vector<std::string> reservations;  // for Reservations::Read()
  int debug_level = 0;                    // how many -d there were
  absl::Duration packet_timeout = absl::Seconds(60);
  absl::Duration orphan_grace = absl::Seconds(60);
  absl::Duration name_wait;     // zero: none
  absl::Duration delay_accept;  // zero: none
  absl::Duration delay_write;

  std::optional<LoopKind> loop;  // nothing: auto, the best one that the kernel allows
  uint32_t workers = 0;          // 0: one per core the process may run on
  std::string pid_file;          // empty: none
  std::string registry_path;     // empty: DefaultRegistryPath(port)
  uint32_t capacity = kRegistryCapacityDefault;
};

// `args` are those after the program's name. `environment` is like getenv(3): null for a variable
// that is not set. A variable that is empty counts as not set, except kRelaxedVariable, of which
// only counts that it is set. kInvalidArgument: the message is one line that names the option or
// the variable and the way out.
absl::StatusOr<Options> ParseOptions(absl::Span<const char* const> args,
                                     absl::FunctionRef<const char*(const char*)> environment);

// What -help prints, several lines.
std::string_view UsageText();
// What -version prints, one line.
std::string_view VersionText();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_OPTIONS_H_
