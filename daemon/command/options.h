// What a process is told: by its command line, by the environment, and by files (settings_file.h).
//
//   const auto environment = [](const char* name) -> const char* { return getenv(name); };
//   absl::StatusOr<Options> options =
//       ReadOptions(absl::MakeConstSpan(argv + 1, argc - 1), environment);
//   if (!options.ok()) { ... print options.status().message(), exit 1 ... }
//
// As with the stock epmd options are read from left to right; a later one overrides an earlier one;
// and a command (-names, -started, -dump, -kill, -stop NAME) comes last. A setting (settings.h)
// counts where it is said first: on the command line, in the environment, in a file. What is said
// of it further down does not count, also of lists.
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
#include "daemon/command/settings.h"
#include "daemon/command/settings_file.h"
#include "daemon/host/address.h"
#include "daemon/loop/loop_kind.h"
#include "daemon/names/rights.h"
#include "daemon/wire/protocol.h"
#include "registry/registration.h"

namespace evermap {

// The file of settings, where neither -config nor the environment names another one.
inline constexpr char kConfigPathDefault[] = "/etc/epmd.conf";
inline constexpr char kConfigVariable[] = "ERL_EPMD_CONFIG";  // as -config
inline constexpr char kPortVariable[] = "ERL_EPMD_PORT";      // as -port
// What a process says to those that follow it: what files said at the start of settings that count
// only then (Effect::kStart). It counts on, whatever the files say by now.
inline constexpr char kStartedWithVariable[] = "ERL_EPMD_STARTED_WITH";
// In the place of a path: no file is read.
inline constexpr char kNoConfig[] = "none";

enum class Command : uint8_t {
  kServe,
  // These ask a mapper that runs already (interactive.h).
  kNames,
  kStarted,
  kDump,
  kKill,
  kStop,
  kCheck,
  kHelp,
  kVersion,
};

// For Reservations::Read().
struct GivenReservation {
  std::string source;
  std::string text;
};

struct Options {
  Command command = Command::kServe;
  std::string stop_name;  // the node that kStop unregisters

  bool systemd = false;  // listen on the sockets that systemd passes, and on no address
  bool daemon = false;   // detach
  std::string config_path = kConfigPathDefault;
  bool is_config_named = false;  // so that it has to be there

  // The settings.
  uint16_t port = protocol::kDefaultPort;
  bool is_port_of_sockets = false;  // those that were passed have another one than was said
  // IP addresses to listen on, as inet_ntop(3) writes them, without duplicates; empty: all of this
  // host. When not empty, 127.0.0.1 and ::1 are among them; where the "any" address of a family was
  // given, it is the only one of that family. Each is to be bound by itself, those of IPv6 with
  // IPV6_V6ONLY; for a loopback address it is no error that the host lacks its protocol family.
  std::vector<std::string> addresses;
  std::vector<Network> allowed;  // networks of other hosts that may connect; empty: all
  std::vector<AccessRule> access;
  std::vector<std::string> expected;  // names of nodes that should be registered, each once
  std::vector<GivenReservation> reservations;
  bool relaxed_command_check = false;
  absl::Duration packet_timeout = absl::Seconds(60);
  absl::Duration orphan_grace = absl::Seconds(60);
  absl::Duration name_wait;     // zero: none
  absl::Duration idle_exit;     // zero: never
  absl::Duration delay_accept;  // zero: none
  absl::Duration delay_write;
  int debug_level = 0;
  std::optional<LoopKind> loop;  // nothing: auto, the best one that the kernel allows
  uint32_t workers = 0;          // 0: one per core the process may run on
  bool no_keeper = false;        // start no keeper
  std::string pid_file;          // empty: none
  std::string registry_path;     // empty: DefaultRegistryPath(port)
  uint32_t capacity = kRegistryCapacityDefault;

  // Where each setting comes from, in the order of Settings(): one for a default, several for a
  // list.
  std::vector<GivenSetting> given;
  SettingsFiles files;                // that were read
  std::vector<std::string> warnings;  // lines
};

// Pure. `args` are those after the program's name. `environment` is like getenv(3): null for a
// variable that is not set. A variable that is empty counts as not set, except that of
// relaxed_command_check, of which only counts that it is set. `from_files` are correct (SettingsFiles
// says so). kInvalidArgument: the message is one line that names the option or the variable and the
// way out.
absl::StatusOr<Options> ParseOptions(absl::Span<const char* const> args,
                                     absl::FunctionRef<const char*(const char*)> environment,
                                     absl::Span<const GivenSetting> from_files = {});

// ParseOptions() with what the files say that are to be read; of settings that count at the start, with
// what kStartedWithVariable says, if it is set. What is wrong in the files is no error here:
// options.files has it, and what is right counts.
absl::StatusOr<Options> ReadOptions(absl::Span<const char* const> args,
                                    absl::FunctionRef<const char*(const char*)> environment);

// What kStartedWithVariable is to be set to for the processes that follow.
std::string StartedWith(const Options& options);

// What -help prints, several lines.
std::string UsageText();
// What -version prints, one line.
std::string_view VersionText();

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_OPTIONS_H_
