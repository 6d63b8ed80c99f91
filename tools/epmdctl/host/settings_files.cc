#include "tools/epmdctl/host/settings_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "registry/base/clock.h"

namespace evermap {
namespace {

// The files that a mapper would read now.
std::vector<std::string> FilesNow(const std::string& path) {
  std::vector<std::string> files;
  std::error_code error;
  if (std::filesystem::exists(path, error)) files.push_back(path);
  for (const auto& entry : std::filesystem::directory_iterator(SettingsDirectory(path), error)) {
    if (IsSettingsFileName(entry.path().filename().string())) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<std::string> ChangedSettingsFiles(const SettingsNote& note) {
  std::vector<std::string> changed;
  for (const SettingsNote::File& read : note.files) {
    struct stat file = {};
    const bool is_there = stat(read.path.c_str(), &file) == 0;
    if (!is_there || NsOf(file.st_mtim) != read.changed_unix_ns) changed.push_back(read.path);
  }
  if (note.path.empty()) return changed;
  for (const std::string& path : FilesNow(note.path)) {
    const bool was_read =
        std::any_of(note.files.begin(), note.files.end(),
                    [&path](const SettingsNote::File& file) { return file.path == path; });
    if (!was_read) changed.push_back(path);
  }
  return changed;
}

}  // namespace evermap
