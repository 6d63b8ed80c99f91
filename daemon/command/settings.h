// The settings of a mapper: one table that says of each how it is called, what it takes, what it is
// when nobody says anything, and when a change of it counts.
//
// A setting has one name everywhere: `packet_timeout` is -packet_timeout on the command line,
// ERL_EPMD_PACKET_TIMEOUT in the environment, and `packet_timeout = 60` in /etc/epmd.conf. Of these
// places the first that says something counts (options.h). A new setting is a row of kSettings, a
// member of Options, and a paragraph in epmd.conf(5); tests set each row in all three places.
//
// Thread safety: constants, and pure functions.
#ifndef EVERMAP_DAEMON_COMMAND_SETTINGS_H_
#define EVERMAP_DAEMON_COMMAND_SETTINGS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "registry/counters.h"
#include "registry/registration.h"

namespace evermap {

struct Options;

// Largest values. The smallest is 1 for each but debug: the stock epmd refuses 0 as well for all
// options that it has.
inline constexpr uint32_t kPortMax = 65535;
inline constexpr uint32_t kPacketTimeoutSecondsMax = 1'000'000;
inline constexpr uint32_t kDelaySecondsMax = 3600;
inline constexpr uint32_t kOrphanGraceSecondsMax = 86'400;
inline constexpr uint32_t kNameWaitSecondsMax = 60;
// Thirty days: who wants longer wants a mapper that stays.
inline constexpr uint32_t kIdleExitSecondsMax = 30 * 86'400;
inline constexpr uint32_t kDebugMax = 3;
// Each worker needs a block of counters in the registry.
inline constexpr uint32_t kWorkersMax = kStatisticsWorkersMax;
// Addresses to listen on, loopback included; well below the number of sockets that a loop can
// accept from.
inline constexpr size_t kAddressesMax = 32;

// Names of expect. Tools look at each of them.
inline constexpr size_t kExpectedMax = 256;

// The names of settings that more than the table knows.
inline constexpr std::string_view kPortName = "port";
inline constexpr std::string_view kAddressName = "address";
inline constexpr std::string_view kAllowName = "allow";
inline constexpr std::string_view kAccessName = "access";
inline constexpr std::string_view kDebugName = "debug";
inline constexpr std::string_view kRelaxedName = "relaxed_command_check";

// When a change of a setting in a file counts.
enum class Effect : uint8_t {
  kReload,   // with epmdctl reload; so with all that follow
  kUpgrade,  // with the next mapper: an upgrade (systemctl reload, SIGHUP) or a restart
  kStart,    // when the mapper is started anew, and no socket and no registry is handed on to it
};

struct Setting {
  std::string_view name;
  std::string_view value;         // what stands for the value in texts; empty: true or false
  uint32_t min;                   // of a number; else 0
  uint32_t max;                   // of a number; else 0
  std::string_view default_text;  // as it is shown
  bool is_list;                   // several values add up
  Effect effect;
  // Takes a value over. `source` says in the error where it stands; the error is one line
  // (kInvalidArgument) that says the way out. Of a setting that is no list the last one counts.
  absl::Status (*apply)(const Setting& self, std::string_view source, std::string_view text,
                        Options& options);
  std::string_view help;  // for -help; lines after the first one begin where it does

  bool is_flag() const { return value.empty(); }
  std::string option() const;    // "-packet_timeout"
  std::string variable() const;  // "ERL_EPMD_PACKET_TIMEOUT"
};

// In the order in which they are shown.
absl::Span<const Setting> Settings();
// Null when there is none of that name.
const Setting* SettingOf(std::string_view name);

enum class Origin : uint8_t { kOption, kEnvironment, kFile, kDefault };
// The words of epmdctl config: "option", "environment", "file", "default".
std::string_view OriginText(Origin origin);

// A value that somebody gave to a setting.
struct GivenSetting {
  const Setting* setting = nullptr;
  std::string text;
  Origin origin = Origin::kDefault;
  std::string place;  // "-port", "ERL_EPMD_PORT", "/etc/epmd.conf:3"; empty for a default

  // Where it stands, as messages begin: "-reserve", "/etc/epmd.conf:3: reserve".
  std::string Source() const;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_SETTINGS_H_
