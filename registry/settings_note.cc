#include "registry/settings_note.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/location.h"

namespace evermap {
namespace {

// Files of settings are at most 1 MiB each, and a note is as long as what they say.
constexpr size_t kNoteSizeMax = size_t{64} << 20;
constexpr mode_t kNoteMode = 0644;
// Bytes that are read at once: the mapper's stack may be small.
constexpr size_t kReadSize = 4096;

// The first field of each line.
constexpr std::string_view kReloads = "reloads";
constexpr std::string_view kRefusal = "refusal";
constexpr std::string_view kWarning = "warning";
constexpr std::string_view kSetting = "setting";
constexpr std::string_view kPath = "path";
constexpr std::string_view kFile = "file";
constexpr std::string_view kUser = "user";

void Append(std::string& text, std::string_view kind, const std::vector<std::string>& fields) {
  text += kind;
  // An option of the command line can have any bytes.
  for (const std::string& field : fields) absl::StrAppend(&text, "\t", Printable(field));
  text += '\n';
}

std::string Text(const SettingsNote& note) {
  std::string text;
  Append(text, kReloads, {std::to_string(note.reloads)});
  if (!note.refusal.empty()) Append(text, kRefusal, {note.refusal});
  for (const std::string& warning : note.warnings) Append(text, kWarning, {warning});
  for (const SettingsNote::Setting& setting : note.settings) {
    Append(text, kSetting, {setting.name, setting.value, setting.origin, setting.place});
  }
  if (!note.path.empty()) Append(text, kPath, {note.path});
  for (const SettingsNote::File& file : note.files) {
    Append(text, kFile, {file.path, std::to_string(file.changed_unix_ns)});
  }
  for (const SettingsNote::User& user : note.users) {
    Append(text, kUser, {user.name, std::to_string(user.uid)});
  }
  return text;
}

std::vector<std::string> Split(std::string_view line) {
  std::vector<std::string> fields;
  while (true) {
    const size_t tab = line.find('\t');
    fields.emplace_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return fields;
    line.remove_prefix(tab + 1);
  }
}

template <typename Number>
Number NumberOf(const std::string& text) {
  Number number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

void ParseLine(std::string_view line, SettingsNote& note) {
  const std::vector<std::string> fields = Split(line);
  const std::string& kind = fields[0];
  if (kind == kReloads && fields.size() == 2) {
    note.reloads = NumberOf<uint64_t>(fields[1]);
  } else if (kind == kRefusal && fields.size() == 2) {
    note.refusal = fields[1];
  } else if (kind == kWarning && fields.size() == 2) {
    note.warnings.push_back(fields[1]);
  } else if (kind == kSetting && fields.size() == 5) {
    note.settings.push_back({fields[1], fields[2], fields[3], fields[4]});
  } else if (kind == kPath && fields.size() == 2) {
    note.path = fields[1];
  } else if (kind == kFile && fields.size() == 3) {
    note.files.push_back({fields[1], NumberOf<int64_t>(fields[2])});
  } else if (kind == kUser && fields.size() == 3) {
    note.users.push_back({fields[1], NumberOf<uint32_t>(fields[2])});
  }
  // What a later release adds is none of this one's business.
}

// The whole of a file that only its reader, root and who else is believed can have written.
bool Read(const std::string& registry_path, NoteOf believed, std::string& text,
          std::string& error) {
  const std::string path = SettingsNotePath(registry_path);
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat file;
  struct stat registry;
  if (!fd.valid() || fstat(fd.get(), &file) != 0) {
    error = path + ": " + ErrorText(errno);
    return false;
  }
  const bool is_of_owner = believed == NoteOf::kRegistrysOwner &&
                           stat(registry_path.c_str(), &registry) == 0 &&
                           registry.st_uid == file.st_uid;
  const bool is_of_us = file.st_uid == geteuid() || file.st_uid == 0 || is_of_owner;
  if (!S_ISREG(file.st_mode) || !is_of_us || (file.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    error = path + ": is not believed: others may write to it";
    return false;
  }
  std::array<char, kReadSize> chunk;
  ssize_t got;
  while ((got = read(fd.get(), chunk.data(), chunk.size())) > 0 && text.size() <= kNoteSizeMax) {
    text.append(chunk.data(), static_cast<size_t>(got));
  }
  if (got < 0) error = path + ": " + ErrorText(errno);
  return got == 0;
}

std::string Write(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0) return ErrorText(errno);
    text.remove_prefix(static_cast<size_t>(written));
  }
  return "";
}

}  // namespace

bool ReadSettingsNote(const std::string& registry_path, SettingsNote& note, std::string& error,
                      NoteOf believed) {
  std::string text;
  if (!Read(registry_path, believed, text, error)) return false;
  note = {};
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    ParseLine(line, note);
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return true;
}

std::string WriteSettingsNote(const std::string& registry_path, const SettingsNote& note) {
  const std::string path = SettingsNotePath(registry_path);
  const std::string temporary = path + "." + std::to_string(getpid());
  // A process of the same id may have left it.
  unlink(temporary.c_str());
  const OwnedFd fd(
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kNoteMode));
  if (!fd.valid()) return temporary + ": cannot be created: " + ErrorText(errno);
  // Whatever the umask is, it is as readable as the registry.
  std::string complaint =
      fchmod(fd.get(), kNoteMode) == 0 ? Write(fd.get(), Text(note)) : ErrorText(errno);
  if (complaint.empty() && rename(temporary.c_str(), path.c_str()) != 0) {
    complaint = ErrorText(errno);
  }
  if (complaint.empty()) return "";
  unlink(temporary.c_str());
  return path + ": cannot be written: " + complaint;
}

}  // namespace evermap
