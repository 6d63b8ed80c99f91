// The texts of -help and -version.
#include <algorithm>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "daemon/command/options.h"

namespace evermap {
namespace {

// Where help begins on a line.
constexpr size_t kColumn = 27;

constexpr std::string_view kHead =
    R"(usage: epmd [OPTION...]                    serve as the Erlang port mapper of this host
       epmd [-d...] [-port N] COMMAND      ask the port mapper that runs

Settings: NAME = VALUE in /etc/epmd.conf is -NAME VALUE here
)";

constexpr std::string_view kTail =
    R"(
Serving
  -config FILE             read this file of settings and FILE.d/*.conf in the place of
                           /etc/epmd.conf and /etc/epmd.conf.d/*.conf; none: no file
  -systemd                 listen on the sockets that systemd passes
  -daemon                  detach; return when connections are accepted; log to syslog

Commands, each the last on the command line
  -names                   list the registered nodes and their ports
  -started                 say by the exit code, 0 or 1, whether a port mapper runs
  -dump                    list registered and former nodes with what is known of them
  -kill                    end the port mapper
  -stop NAME               unregister a node by force
  -check                   say what is wrong with the settings, and exit with 1 if something is
  -help, -version          tell and exit

Environment, where the option is not given and before any file: of each setting ERL_EPMD_ and its
name, as ERL_EPMD_PORT, ERL_EPMD_ADDRESS, ERL_EPMD_PACKET_TIMEOUT; also
  ERL_EPMD_RELAXED_COMMAND_CHECK   set to anything: as -relaxed_command_check
  ERL_EPMD_CONFIG                  as -config
)";

void AppendHelp(std::string_view usage, std::string_view help, std::string& text) {
  absl::StrAppend(&text, "  ", std::string(usage));
  size_t at = 2 + usage.size();
  while (!help.empty()) {
    if (at + 1 > kColumn) {
      text += '\n';
      at = 0;
    }
    const std::string_view line = help.substr(0, help.find('\n'));
    absl::StrAppend(&text, std::string(kColumn - at, ' '), std::string(line), "\n");
    at = 0;
    help.remove_prefix(std::min(line.size() + 1, help.size()));
  }
}

}  // namespace

std::string UsageText() {
  std::string text(kHead);
  for (const Setting& setting : Settings()) {
    // The stock epmd counts how often it is there.
    const std::string usage = setting.name == "debug" ? "-d, -debug"
                              : setting.is_flag()
                                  ? setting.option()
                                  : setting.option() + " " + std::string(setting.value);
    AppendHelp(usage, setting.help, text);
  }
  return text + std::string(kTail);
}

std::string_view VersionText() { return "epmd (Evermap) " EVERMAP_VERSION "\n"; }

}  // namespace evermap
