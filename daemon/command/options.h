// The command line of the mapper: that of the stock epmd, and ours.
//
//   absl::StatusOr<Options> options =
//       ParseOptions(absl::MakeConstSpan(argv + 1, argc - 1), [](const char* name) { return
//       getenv(name); });
//   if (!options.ok()) { ... print options.status().message(), exit 1 ... }
//
// Pure: reads no file, resolves no name, prints nothing. As with the stock epmd options are read
// from left to right, a later one overrides an earlier one and the environment, and what the epmd
// is asked to do as a command (-names, -started, -dump, -kill, -stop NAME) comes last. Only -allow
// and -reserve add to earlier ones.
#ifndef EVERMAP_DAEMON_COMMAND_OPTIONS_H_
#define EVERMAP_DAEMON_COMMAND_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/host/address.h"
#include "daemon/wire/protocol.h"
#include "registry/counters.h"
#include "registry/registration.h"

namespace evermap {

// Bounds of the options' values; each is at least 1. The stock epmd refuses a 0 for all it knows.
inline constexpr uint32_t kPortMax = 65535;
inline constexpr uint32_t kPacketTimeoutSecondsMax = 1'000'000;
inline constexpr uint32_t kDelaySecondsMax = 3600;
inline constexpr uint32_t kOrphanGraceSecondsMax = 86'400;
// Each worker has a block of counters in the registry.
inline constexpr uint32_t kWorkersMax = kStatisticsWorkersMax;
// Addresses to listen on, loopback included; well below the sockets that a loop accepts from.
inline constexpr size_t kAddressesMax = 32;
// Each new connection may be compared with all of them.
inline constexpr size_t kAllowedMax = 256;

enum class Command : uint8_t {
  kServe,
  // To a mapper that runs already (interactive.h).
  kNames,
  kStarted,
  kDump,
  kKill,
  kStop,
  kHelp,
  kVersion,
};

enum class LoopChoice : uint8_t { kAuto, kIoUring, kEpoll };

struct Options {
  Command command = Command::kServe;
  std::string stop_name;  // of kStop

  uint16_t port = protocol::kDefaultPort;
  // IP addresses to listen on, as inet_ntop(3) writes them, without duplicates; empty: all of this
  // host. When not empty, 127.0.0.1 and ::1 are among them; the "any" address of a family stands
  // for all of that family instead. To be bound one by one, those of IPv6 with IPV6_V6ONLY; that
  // the host lacks a protocol family is no error for a loopback address.
  std::vector<std::string> addresses;
  bool systemd = false;    // listen on the sockets that systemd passes, and on no address
  bool daemon = false;     // detach
  bool no_keeper = false;  // start no keeper
  bool relaxed_command_check = false;
  // Who may connect from other hosts; empty: everybody.
  std::vector<Network> allowed;
  std::vector<std::string> reservations;  // for Reservations::Read()
  int debug_level = 0;                    // number of -d options
  absl::Duration packet_timeout = absl::Seconds(60);
  absl::Duration orphan_grace = absl::Seconds(60);
  absl::Duration delay_accept;  // zero: none
  absl::Duration delay_write;

  LoopChoice loop = LoopChoice::kAuto;
  uint32_t workers = 0;       // 0: one per core the process may run on
  std::string registry_path;  // empty: DefaultRegistryPath(port)
  uint32_t capacity = kRegistryCapacityDefault;
};

// `args` are those after the program's name. `environment` is like getenv(3): null when not set. A
// variable set to nothing counts as not set, but for ERL_EPMD_RELAXED_COMMAND_CHECK, where being
// set is all that counts. kInvalidArgument: the message is one line that names the option or the
// variable and the way out.
absl::StatusOr<Options> ParseOptions(absl::Span<const char* const> args,
                                     absl::FunctionRef<const char*(const char*)> environment);

// What -help prints, several lines.
std::string_view UsageText();
// What -version prints, one line.
std::string_view VersionText();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_OPTIONS_H_
