#include "daemon/command/settings_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/command/options.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/settings_note.h"

namespace evermap {
namespace {

constexpr std::string_view kPathValue = "PATH";  // what settings.h calls the value that is one
constexpr std::string_view kBlanks = " \t\r";
// Bytes that are read at once: the stack may be small (docs/requirements.md).
constexpr size_t kReadSize = 4096;

std::string_view Trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(kBlanks), text.size());
  text.remove_prefix(begin);
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

void AddProblem(SettingsFiles& files, const std::string& place, const std::string& what) {
  if (files.problems.size() < kSettingsProblemsMax) {
    files.problems.push_back(absl::StrCat(place, ": ", what));
  }
}

// Why a file or directory that was opened does not count; empty: it does.
std::string Complaint(const struct stat& file, bool is_directory) {
  if (is_directory ? !S_ISDIR(file.st_mode) : !S_ISREG(file.st_mode)) {
    return is_directory ? "is no directory" : "is no file";
  }
  if (file.st_uid != 0 && file.st_uid != geteuid()) {
    return absl::StrCat("belongs to user ", file.st_uid,
                        ", who could say anything; chown it to root or to the mapper's user");
  }
  if ((file.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return "may be written by others than its owner; chmod go-w";
  }
  return "";
}

// The content of a file; what is wrong with it is a problem then.
std::string Content(const std::string& path, int fd, SettingsFiles& files) {
  struct stat file = {};
  std::string complaint = fstat(fd, &file) == 0 ? Complaint(file, false) : ErrorText(errno);
  std::string content;
  std::array<char, kReadSize> chunk;
  ssize_t got = 0;
  while (complaint.empty() && (got = read(fd, chunk.data(), chunk.size())) != 0) {
    if (got < 0) complaint = ErrorText(errno);
    if (got > 0) content.append(chunk.data(), static_cast<size_t>(got));
    if (content.size() > kSettingsFileSizeMax) complaint = "is longer than 1 MiB";
  }
  if (!complaint.empty()) {
    AddProblem(files, path, complaint);
    return "";
  }
  files.files.push_back({path, NsOf(file.st_mtim)});
  return content;
}

void ReadFile(const std::string& path, bool must_exist, SettingsFiles& files) {
  // O_NONBLOCK: a pipe must not keep the mapper waiting.
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    if (errno == ENOENT && !must_exist) return;
    AddProblem(files, path,
               absl::StrCat("cannot be read: ", ErrorText(errno),
                            errno == EACCES ? "; let the mapper's user read it (chmod a+r)" : ""));
    return;
  }
  ParseSettings(path, Content(path, fd.get(), files), files);
}

// The names of a directory's files of settings, in order.
std::vector<std::string> NamesIn(const std::string& path, SettingsFiles& files) {
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
  struct stat directory = {};
  if (!fd.valid()) {
    if (errno != ENOENT) {
      AddProblem(files, path, absl::StrCat("cannot be read: ", ErrorText(errno)));
    }
    return {};
  }
  const std::string complaint =
      fstat(fd.get(), &directory) == 0 ? Complaint(directory, true) : ErrorText(errno);
  if (!complaint.empty()) {
    AddProblem(files, path, complaint);
    return {};
  }
  DIR* const entries = fdopendir(fd.get());
  if (entries == nullptr) {
    AddProblem(files, path, absl::StrCat("cannot be read: ", ErrorText(errno)));
    return {};
  }
  // closedir() closes it.
  fd.Release();
  const absl::Cleanup close_entries = [entries] { closedir(entries); };
  std::vector<std::string> names;
  while (const dirent* const entry = readdir(entries)) {
    if (IsSettingsFileName(entry->d_name)) names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  if (names.size() > kSettingsFilesMax) {
    AddProblem(files, path, absl::StrCat("has more than ", kSettingsFilesMax, " files"));
    names.resize(kSettingsFilesMax);
  }
  return names;
}

// Forgets what earlier lines say of a setting.
void Empty(const Setting& setting, SettingsFiles& files) {
  std::erase_if(files.settings,
                [&setting](const GivenSetting& given) { return given.setting == &setting; });
}

// One file as it is read.
class Parser {
 public:
  Parser(const std::string& path, SettingsFiles& files) : path_(path), files_(files) { Collect(); }

  void Line(std::string_view line) {
    ++number_;
    line = Trimmed(line);
    if (line.empty() || line.front() == '#') return;
    const std::string complaint = Add(line);
    if (!complaint.empty()) AddProblem(files_, Place(), complaint);
  }

 private:
  std::string Place() const { return absl::StrCat(path_, ":", number_); }

  void Collect() {
    sum_ = Options();
    for (const GivenSetting& given : files_.settings) {
      // It was correct when it was read.
      given.setting->apply(*given.setting, given.Source(), given.text, sum_).IgnoreError();
    }
  }

  // What is wrong with the line; empty: nothing that was not told.
  std::string Add(std::string_view line) {
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) return Quote(line) + " is not NAME = VALUE";
    const std::string_view name = Trimmed(line.substr(0, equals));
    std::string value(Trimmed(line.substr(equals + 1)));
    std::replace(value.begin(), value.end(), '\t', ' ');
    const Setting* const setting = SettingOf(name);
    if (setting == nullptr) return "unknown setting " + Quote(name) + "; see epmd.conf(5)";
    if (HasControls(value)) return std::string(name) + " has control characters in its value";
    if (value.empty() && setting->is_list) {
      Empty(*setting, files_);
      Collect();
      return "";
    }
    if (value.empty()) return std::string(name) + " needs a value";
    // Nobody knows from which directory a mapper is started.
    if (setting->value == kPathValue && !value.starts_with('/')) {
      return std::string(name) + " needs a whole path, from / on, not " + Quote(value);
    }
    if (!setting->is_list && !seen_.insert(setting).second) {
      return std::string(name) + " is said twice in this file";
    }
    const absl::Status status = setting->apply(*setting, setting->name, value, sum_);
    if (!status.ok()) return std::string(status.message());
    if (!setting->is_list) Empty(*setting, files_);
    files_.settings.push_back({setting, std::move(value), Origin::kFile, Place()});
    return "";
  }

  const std::string& path_;
  SettingsFiles& files_;
  size_t number_ = 0;
  std::set<const Setting*> seen_;
  Options sum_;  // of what was read so far: the length of a list has a bound
};

}  // namespace

void ParseSettings(const std::string& path, std::string_view text, SettingsFiles& files) {
  Parser parser(path, files);
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    parser.Line(line);
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
}

SettingsFiles ReadSettingsFiles(const std::string& path, bool must_exist) {
  SettingsFiles files;
  ReadFile(path, must_exist, files);
  const std::string directory = SettingsDirectory(path);
  for (const std::string& name : NamesIn(directory, files)) {
    ReadFile(absl::StrCat(directory, "/", name), /*must_exist=*/true, files);
  }
  return files;
}

}  // namespace evermap
