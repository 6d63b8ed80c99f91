// Files of settings: /etc/epmd.conf, then /etc/epmd.conf.d/*.conf in the order of their names; or,
// of another file PATH, that and PATH.d/*.conf.
//
//   # comment
//   packet_timeout = 30
//   access = list from host
//
// One setting a line, by its name (settings.h). Blank lines, and lines whose first character is #,
// are skipped. A file says a setting once, lists aside; what a later file says of one counts in the
// place of what an earlier one says, and adds to it for a list. `NAME =` without a value empties a
// list.
//
// A file, or directory, that somebody else than root and the user of this process can write to is
// refused as a whole: who can change it decides who may register and ask.
//
// Thread safety: functions without state.
#ifndef EVERMAP_DAEMON_COMMAND_SETTINGS_FILE_H_
#define EVERMAP_DAEMON_COMMAND_SETTINGS_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/command/settings.h"

namespace evermap {

inline constexpr size_t kSettingsFileSizeMax = size_t{1} << 20;
inline constexpr size_t kSettingsFilesMax = 256;
// Mistakes that are told; what follows is as a rule their consequence.
inline constexpr size_t kSettingsProblemsMax = 100;

struct SettingsFiles {
  struct File {
    std::string path;
    int64_t changed_unix_ns = 0;  // when it was last written to
  };
  std::vector<File> files;             // that were read
  std::vector<GivenSetting> settings;  // that are correct, in their order
  std::vector<std::string> problems;   // one line each, which begins with PATH:LINE or PATH
};

// Reads `path` and the files of its directory. That `path` is not there is a problem if it
// `must_exist`.
SettingsFiles ReadSettingsFiles(const std::string& path, bool must_exist);

// Adds what `text` says, which is that of the file at `path`.
void ParseSettings(const std::string& path, std::string_view text, SettingsFiles& files);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_COMMAND_SETTINGS_FILE_H_
