// PATH.settings, beside the registry file PATH: the settings by which the mapper serves, where each
// of them comes from, and what became of the last reload. The mapper writes it when it starts and
// when it takes settings over; epmdctl config reads it, and so does a mapper that is started again
// for nodes of an earlier one and finds the files of settings wrong.
//
// The file is text: one note a line, its fields separated by tabs, in which no control characters
// are. Its name appears at once, when all is written. A file that others than root, the mapper's
// user and the reader could have written is not believed.
//
// Depends on nothing but the standard library and the kernel.
#ifndef EVERMAP_REGISTRY_SETTINGS_NOTE_H_
#define EVERMAP_REGISTRY_SETTINGS_NOTE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace evermap {

struct SettingsNote {
  struct Setting {
    std::string name;
    std::string value;
    std::string origin;  // "option", "environment", "file", "socket" or "default"
    std::string place;   // "-port", "ERL_EPMD_PORT", "/etc/epmd.conf:3"; empty for a default
  };
  struct File {
    std::string path;
    int64_t changed_unix_ns = 0;  // when it was last written to, when it was read
  };
  struct User {
    std::string name;
    uint32_t uid = 0;
  };
  // Grows by one with each reload, taken over or refused, that mappers of a registry were asked for.
  uint64_t reloads = 0;
  // Why the last reload was refused, one line; empty: it was not.
  std::string refusal;
  // What was said of the last reload, lines: settings that count later.
  std::vector<std::string> warnings;
  std::vector<Setting> settings;
  std::string path;         // of the file of settings; empty: none is read
  std::vector<File> files;  // that were read: it, and those of its directory
  std::vector<User> users;  // whom the settings name, with the numbers that they have on this host
};

// The directory of more files that are read, beside the file of settings at `path`, and whether a file
// of this name in it is one of them. What begins with a dot is an editor's.
inline std::string SettingsDirectory(const std::string& path) { return path + ".d"; }
inline bool IsSettingsFileName(std::string_view name) {
  return name.ends_with(".conf") && !name.starts_with('.');
}

// Whose note is believed, beside the reader's own and root's.
enum class NoteOf : uint8_t {
  kRegistrysOwner,  // for tools: whoever owns the registry says what counts for it
  kNobodyElse,  // for a mapper: where its registry has vanished, a stranger's may lie in its place
};

// The note of a registry. False, and why as a sentence that begins with a path, when there is none
// that can be believed.
bool ReadSettingsNote(const std::string& registry_path, SettingsNote& note, std::string& error,
                      NoteOf believed = NoteOf::kRegistrysOwner);

// Writes it. Returns what went wrong, as a sentence that begins with a path; empty: nothing.
std::string WriteSettingsNote(const std::string& registry_path, const SettingsNote& note);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SETTINGS_NOTE_H_
